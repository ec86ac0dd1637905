#!/bin/sh
api=/2018-06-01/runtime
if [ "$_HANDLER" = main.broken ]; then
    ./request POST $api/init/error '{"errorType":"Shell.Broken","errorMessage":"not today"}'
    exit 1
fi
while :; do
    {
        read -r id
        read -r deadline
        read -r event
    } <<END
$(./request GET $api/invocation/next)
END
    call=$api/invocation/$id
    case $event in
    *fail*) ./request POST "$call/error" '{"errorType":"Shell.Failed","errorMessage":"not today"}' ;;
    *) ./request POST "$call/response" "{\"event\":$event,\"deadline\":$deadline}" ;;
    esac
done
