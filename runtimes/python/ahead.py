"""What a process runs before it has a function, to be warm (bootstrap.py). Small, for each copy of a process compiles it once more."""


def handler(event, context):
    """Takes the way of a call."""
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": event["rawPath"], "isBase64Encoded": False}
