"""Whether a watch's readings are like those that a model learned from; and if not, why, in a sentence for each reason.

    batches of one watch ─ Gathering ─▶ Stretch of 20 s ─ judge ─▶ Judgement ─ Verdict ─▶ findings that hold
                                                            ▲
                                        the bundle's Profile of its training recordings

Everything here is pure. A finding rests on the readings as they enter the recognizer: in SI units, before any
filter. It holds once two stretches in a row show it, or the only one there is. Nothing here changes what is recognised.

offline   `har-stream classify FILE --explain` judges every stretch of a file (streamer/explanation.py)
live      each watch is judged now and then, a few at once (`fleet.py`)
training  the same stretches of the training recordings make the Profile (models/windows/profile.py)
"""
