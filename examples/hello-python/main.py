"""Greets whoever the query parameter `name` says."""

import json
import platform

NAME_CHARS = 100


def handler(event, context):
    """Answers a request to the function's URL: `?name=Ada` says who is greeted."""
    query = event.get("queryStringParameters") or {}
    name = query.get("name", "world")
    if not name.strip() or len(name) > NAME_CHARS:
        return answer(400, {"error": f"name has to have 1 to {NAME_CHARS} characters"})
    print("greeting", name)
    return answer(
        200,
        {
            "message": f"Hello, {name}",
            "function": context.function_name,
            "version": context.function_version,
            "requestId": context.aws_request_id,
            "memoryMb": int(context.memory_limit_in_mb),
            "remainingMs": context.get_remaining_time_in_millis(),
            "python": platform.python_version(),
        },
    )


def answer(status, body):
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(body, ensure_ascii=False),
    }
