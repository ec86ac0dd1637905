# An answer to a call that somebody else made: an id of the right form that is not this call's.
import os
import struct
import time

other = list(context.aws_request_id)
other[-1] = "0" if other[-1] != "0" else "1"
payload = "".join(other).encode() + b'"forged"'
os.write(3, struct.pack("<IB3x", len(payload), 19) + payload)
time.sleep(9999)
