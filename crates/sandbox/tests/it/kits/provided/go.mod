module bootstrap

go 1.18
