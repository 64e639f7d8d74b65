"""Other programs' payloads, a module each: bytes to streams, with what their documentation says about them.

A decoder is a pure function of one message. What it cannot tell from that alone, such as which unit an accelerometer
counts in, it leaves open; `streamer.sources` finds out, per watch.
"""
