"""Many connections to an echo server at once, by asyncio, which leaves the waiting to epoll.

    crowd.py CONNECTIONS ADDRESS PORT …      each uses the next address and port

All are open together before the first says a word. Prints how many got back what they said.
"""

import asyncio
import sys


async def converse(number: int, address: str, port: int, together: asyncio.Barrier) -> bool:
    reader, writer = await asyncio.open_connection(address, port)
    await together.wait()
    words = (f"This is number {number}. " * 500).encode()
    writer.write(words)
    writer.write_eof()
    answer = await reader.read(-1)
    writer.close()
    return answer == words


async def main() -> None:
    count, places = int(sys.argv[1]), sys.argv[2:]
    together = asyncio.Barrier(count)
    pairs = [(places[at], int(places[at + 1])) for at in range(0, len(places), 2)]
    results = await asyncio.gather(*(
        converse(number, *pairs[number % len(pairs)], together) for number in range(count)))
    print(sum(results))


asyncio.run(main())
