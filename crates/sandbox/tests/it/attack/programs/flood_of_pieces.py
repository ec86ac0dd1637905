# An answer in pieces without end, each in itself well-formed.
import os
import struct

me = context.aws_request_id.encode()
os.write(3, struct.pack("<IB3x", 38, 22) + me + b"{}")
piece = struct.pack("<IB3x", 65036, 23) + me + bytes(65000)
while True:
    os.write(3, piece)
