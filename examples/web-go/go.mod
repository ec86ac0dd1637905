module web-go

go 1.21
