"""What other programs' watches send, made into har-stream's own readings: SI, gravity included, chips' sign.

    Sent ─ times since 1970 ─ which sensor ─ gravity added ─ unit and sign ─ ImuBatch of acc, of gyro, or of both

Readings whose unit or sign is not known yet are held, and let go together once it is; after HOLD_NS of them the message
is refused and the oldest are let go, for they are worth nothing without. Nothing is guessed.

Of several accelerations of one program the best is used (`Sensor.rank`); the gyroscope has to be on the same body.
Where a better one turns up, or a sender is set otherwise, the watch begins anew, as behind a hole.

What comes of a watch's messages depends on these and their order, and on nothing else.
"""

from streamer.sources.acceleration import Taken
from streamer.sources.stage import Source, Sources

__all__ = ["Source", "Sources", "Taken"]
