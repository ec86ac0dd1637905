# The contract suite's handler that answers in pieces (model::suites::sandbox).
import os
import time


def handler(event, context):
    yield {"statusCode": 201, "headers": {"x-said": "before"}}
    n = 0
    while n < event["pieces"] or event["then"] == "endless":
        yield bytes([97 + n % 26]) * event["bytes"]
        n += 1
        print("wrote %d" % n)
    if event["then"] == "throw":
        raise ValueError("half-way")
    if event["then"] == "exit":
        os._exit(7)
    if event["then"] == "never":
        time.sleep(9999)
