# Frames without end, each in itself well-formed: answers to this call, again and again.
import os
import struct

payload = context.aws_request_id.encode() + b'"again"' * 9000
frame = struct.pack("<IB3x", len(payload), 20) + payload
while True:
    os.write(3, frame)
