import os

if os.environ["_HANDLER"] == "main.broken":
    raise RuntimeError("not today")


def handler(event, context):
    if event["op"] == "fail":
        raise ValueError("not today")
    return {"event": event, "left": context.get_remaining_time_in_millis()}
