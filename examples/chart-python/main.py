"""Draws the bar chart that a request describes, as PNG."""

import base64
import binascii
import json

from chart import BARS_MAX, InvalidChart, draw

SAMPLE = {
    "title": "Calls per day, in thousands",
    "data": {"Mon": 42, "Tue": 58.5, "Wed": 61, "Thu": 74.2, "Fri": 66, "Sat": 31, "Sun": 27.5},
}


def handler(event, context):
    """Answers a request to the function's URL with a chart; with a sample if the request describes none."""
    try:
        title, data = read(event)
        png = draw(title, data)
    except InvalidChart as e:
        return {
            "statusCode": 400,
            "headers": {"content-type": "application/json"},
            "body": json.dumps({"error": str(e)}),
        }
    print(f"{len(data)} bars, {len(png)} bytes")
    return {
        "statusCode": 200,
        "headers": {"content-type": "image/png"},
        "isBase64Encoded": True,
        "body": base64.b64encode(png).decode(),
    }


def read(event):
    """Title and bars: from a JSON body, else from the query (`?title=T&data=Mon:3,Tue:5`), else the sample."""
    query = event.get("queryStringParameters") or {}
    if event.get("body"):
        described = from_body(event)
    elif "data" in query:
        described = {"title": query.get("title", ""), "data": from_query(query["data"])}
    else:
        described = SAMPLE
    title, data = described.get("title", ""), described.get("data")
    if not isinstance(title, str):
        raise InvalidChart("title has to be a string")
    if not isinstance(data, dict):
        raise InvalidChart('data has to be an object of labels and numbers, such as {"Mon": 3}')
    return title, data


def from_body(event):
    body = event["body"]
    try:
        # What a client sends without saying that it is JSON arrives as base64.
        text = base64.b64decode(body).decode() if event.get("isBase64Encoded") else body
        described = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as e:
        raise InvalidChart(f"the body is no JSON: {e}") from e
    if not isinstance(described, dict):
        raise InvalidChart('the body has to be an object with "data" and, if you like, "title"')
    return described


def from_query(text):
    data = {}
    for part in text.split(",", BARS_MAX):
        label, colon, value = part.rpartition(":")
        try:
            number = float(value)
        except ValueError:
            colon = ""
        if not colon:
            raise InvalidChart(f"data has to look like Mon:3,Tue:5; {part[:40]!r} does not")
        if label.strip() in data:
            raise InvalidChart(f"the label {label.strip()!r} is there twice")
        data[label.strip()] = number
    return data
