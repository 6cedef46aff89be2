"""An agent that asks a model, runs the tools that it names at once, and resumes after a kill.

    python examples/async_agent.py sqlite:./agent "Which is warmest: Lisbon, Oslo or Kyoto?"

Stop it with Ctrl-C or `kill -9`, and run it again: no answer of the model and no result of a tool is asked for twice,
unless it was under way. `stateview -s sqlite:./agent -n agent log` shows what it did.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from typing import Any

from stateview import AsyncStateManager

Message = dict[str, Any]
DEGREES = {"Lisbon": 24, "Oslo": 11, "Kyoto": 29}


async def ask_model(messages: list[Message], seconds: float) -> Message:
    """Return the next message of the model. Put the call of a real one here."""
    await asyncio.sleep(seconds)
    found = [message for message in messages if message["role"] == "tool"]
    if not found:
        cities = [city for city in re.findall(r"\w+", messages[0]["text"]) if city in DEGREES]
        return {"role": "model", "calls": [{"id": f"c{n}", "city": city} for n, city in enumerate(cities)]}
    warmest = max(found, key=lambda message: message["degrees"])
    return {"role": "model", "calls": [], "text": f"{warmest['city']}, {warmest['degrees']} °C"}


async def measure(city: str, seconds: float) -> int:
    """Return the temperature of a city. Put a real tool here."""
    print(f"measuring {city}", flush=True)
    await asyncio.sleep(seconds * (1 + len(city) % 3))
    return DEGREES[city]


async def run_call(state: AsyncStateManager, turn: int, call: Message, seconds: float) -> Message:
    """Run one tool, or return the result that an earlier run saved."""
    key = f"result:{turn}:{call['id']}"
    result: Message | None = await state.load(key, None)
    if result is None:
        result = {"role": "tool", "city": call["city"], "degrees": await measure(call["city"], seconds)}
        await state.save(key, result)
    return result


async def run_agent(state: AsyncStateManager, question: str, seconds: float) -> str:
    """Take turns with the model until it calls no tool; return its answer."""
    messages = await state.load("messages", [{"role": "user", "text": question}])
    while True:
        if messages[-1]["role"] != "model":
            messages.append(await ask_model(messages, seconds))
            await state.save("messages", messages, reason="the model answered")
        calls = messages[-1]["calls"]
        if not calls:
            return str(messages[-1]["text"])
        turn = sum(message["role"] == "model" for message in messages)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run_call(state, turn, call, seconds)) for call in calls]
        messages += [task.result() for task in tasks]
        async with state.transaction(f"{len(calls)} results of turn {turn}") as tx:  # one commit
            await tx.save("messages", messages)
            await tx.delete(keys=["result:*"])
        await state.checkpoint(f"after_turn_{turn}")


async def main() -> None:
    """Run the agent of the command line."""
    parser = argparse.ArgumentParser(description="Answer a question, and resume after a kill.")
    parser.add_argument("store", help="a store URL, such as sqlite:./agent")
    parser.add_argument("question")
    parser.add_argument("--seconds", type=float, default=1.0, help="the time that the model and a tool take")
    given = parser.parse_args()
    async with AsyncStateManager(given.store, "agent", quiet=True) as state:
        print(await run_agent(state, given.question, given.seconds))


if __name__ == "__main__":
    asyncio.run(main())
