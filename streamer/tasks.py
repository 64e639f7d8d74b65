"""What asyncio leaves to whoever runs several tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_of(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Run all until one ends, cancel the others, and raise what it raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def heed_cancellation() -> None:
    """Let the current task end if it was told to; for loops that publish.

    Python 3.11's wait_for, on which the MQTT clients build, swallows a cancellation that meets an acknowledgement;
    without this the loop would go on, and who cancelled it wait for ever.

    Raises:
        asyncio.CancelledError: it was.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
