def handler(event, context):
    """Called with the event (parsed JSON) and the context of the call; what it returns is the answer, as JSON."""
    print("request", context.aws_request_id, "with", len(event), "keys")
    return {"message": f"Hello, {event.get('name', 'world')}"}
