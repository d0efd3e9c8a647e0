"""Several nodes of one chain asked as one: the unwell, the late and the lying are left out and named.

A node is not asked while it fails, while it is of another chain, while it is more than a few blocks behind, or while
most others have another block at the same height. Where two disagree and nothing decides between them, nothing is
believed at all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

from eth_utils.crypto import keccak

from bot.domain.errors import Retryable, VenueFatal
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.domain.venues import VenueHealth
from bot.gateways.chain.abi import Undecodable, to_int
from bot.gateways.chain.nouns import Block
from bot.gateways.chain.rpc import Endpoint, RateLimited, RpcError, Unanswered, UnknownBlock
from bot.gateways.chain.settings import ChainSettings
from bot.gateways.gateway import Clock

COMPARED_BLOCKS_BACK: Final = 3  # a fork of one or two blocks at the tip is no lie
PATIENCE_NS: Final = 300 * NS_PER_MS  # of a quote for the second opinion about its block
_FIRST_BACKOFF_NS: Final = 250 * NS_PER_MS
_LONGEST_BACKOFF_NS: Final = 30 * NS_PER_S
_FAILURES_TO_DOWN: Final = 3
_LEAST_PERIOD_NS: Final = NS_PER_S
_LONGEST_PERIOD_NS: Final = 12 * NS_PER_S


class Node:
    """An endpoint and what is held against it."""

    __slots__ = (
        "asked_again_ns",
        "disputes",
        "endpoint",
        "failure",
        "failures",
        "height",
        "is_limited",
        "lag",
        "verified",
        "wrong",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.failures = 0
        self.failure = ""
        self.is_limited = False
        self.asked_again_ns = 0
        self.height = -1
        self.lag = ""
        self.wrong = ""
        self.verified = False  # its chain id was seen
        self.disputes: dict[str, str] = {}  # subject → what it says against the others

    @property
    def name(self) -> str:
        """What people are shown."""
        return self.endpoint.name

    @property
    def trouble(self) -> str:
        """Say why it is not asked, "" if it is."""
        return (
            self.wrong
            or next(iter(self.disputes.values()), "")
            or self.lag
            or self.failure
            or ("" if self.verified else "its chain id is not known yet")
        )

    def is_last_resort(self, now_ns: int) -> bool:
        """Tell whether only failed connections speak against it, and few of them or a while ago."""
        is_time = self.asked_again_ns <= now_ns or (self.failures < _FAILURES_TO_DOWN and not self.is_limited)
        return is_time and self.verified and not (self.wrong or self.disputes or self.lag)

    def fail(self, error: Retryable, now_ns: int) -> None:
        """Take note of a failure; the wait doubles with each in a row, or is what the node asked for."""
        self.failures += 1
        self.failure = str(error)
        self.is_limited = isinstance(error, RateLimited)
        wait_ns = min(_FIRST_BACKOFF_NS << min(self.failures - 1, 16), _LONGEST_BACKOFF_NS)
        asked_ns = error.retry_after_ns if isinstance(error, RateLimited) else 0
        self.asked_again_ns = now_ns + max(wait_ns, asked_ns)

    def succeed(self, *, is_probe: bool) -> None:
        """Take note of an answer; one to a probe does not end a row of failures, which may be of other methods only."""
        self.failures = self.failures if is_probe else 0
        self.failure = ""
        self.is_limited = False
        self.asked_again_ns = 0


class Endpoints:
    """The nodes of one chain, in order of preference. `async with` it: that checks every chain id.

    `patience_ns` is how long a quote waits for the second opinion about its block.
    """

    def __init__(self, settings: ChainSettings, clock: Clock, *, patience_ns: int = PATIENCE_NS) -> None:
        self.venue = settings.venue
        self._chain_id = settings.chain_id
        self._max_lag_blocks = settings.max_lag_blocks
        self._period_ns = min(max(settings.block_ns, _LEAST_PERIOD_NS), _LONGEST_PERIOD_NS)
        self._clock = clock
        self._patience_ns = patience_ns
        endpoints = [Endpoint(url, settings.timeout_ns) for url in settings.http_urls]
        names = Counter(endpoint.name for endpoint in endpoints)
        for at, endpoint in enumerate(endpoints, 1):
            if names[endpoint.name] > 1:
                endpoint.name += f" #{at}"
        self._nodes = [Node(endpoint) for endpoint in endpoints]
        self.height = -1  # of the best node that is believed, at the last check
        self._head_height = -1
        self._splits: dict[str, str] = {}  # subject → who says what, where no majority decides
        self._tip_split = ""
        self._audited: dict[str, str] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open every connection and check every chain id.

        Raises VenueFatal if every node that answers is of another chain, Retryable if none answers.
        """
        for node in self._nodes:
            await self._stack.enter_async_context(node.endpoint)
        try:
            await self.check()
            self._require_one()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._stack.aclose()

    def _require_one(self) -> None:
        if not self._nodes or all(node.wrong for node in self._nodes):
            raise VenueFatal(f"{self.venue}: {self._everything_wrong() or 'no endpoint is configured'}")
        if not any(node.verified and not node.wrong for node in self._nodes):
            raise Retryable(f"{self.venue}: no endpoint can be used: {self._everything_wrong()}")

    # What they are asked.

    async def call(
        self,
        method: str,
        params: Sequence[object] = (),
        *,
        needs_result: bool = False,
        fault_of: Callable[[Any], str] | None = None,
    ) -> Any:  # noqa: ANN401
        """Return the first usable node's answer; the next is asked if it gives none, or lacks the block in question.

        With `needs_result` a null is such a lack too; an answer in which `fault_of` finds one is a failure of the node.
        Raises Retryable if nobody answers or nobody is to be believed,
        UnknownBlock if all who answered lack the block, and the node's own RpcError or Reverted.
        """
        self._require_no_split()
        lacking: UnknownBlock | None = None
        failed: list[str] = []
        for node in self._in_order():
            try:
                result = await self._ask(node, method, params)
            except UnknownBlock as error:
                lacking = error
                continue
            except Unanswered as error:
                failed.append(str(error))
                continue
            if result is None and needs_result:
                lacking = UnknownBlock(f"{node.name}: {method} found nothing")
            elif fault_of is None or not (fault := fault_of(result)):
                return result
            else:
                failed.append(f"{node.name}: {fault}")
                node.fail(Unanswered(failed[-1]), self._clock.now_ns())
        if lacking is not None:
            raise lacking
        raise Retryable(f"{self.venue}: nobody answered {method}: {'; '.join(failed) or self._everything_wrong()}")

    async def broadcast(self, method: str, params: Sequence[object]) -> dict[str, Any]:
        """Ask every node of this chain at once; return as soon as one gives a result, or all have failed.

        What each has said by then is by name: a result or its error. The others are left to finish by themselves.
        """
        tasks = {
            asyncio.ensure_future(_caught(self._ask(node, method, params))): node.name
            for node in self._nodes
            if node.verified and not node.wrong
        }
        pending: set[asyncio.Task[Any]] = set(tasks)
        while pending and not any(task.done() and not isinstance(task.result(), Exception) for task in tasks):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        return {name: task.result() for task, name in tasks.items() if task.done()}

    async def block(self, which: int | str) -> Block:
        """Return the header of a block by number, hash or tag. Raises UnknownBlock where no node has it, Retryable."""
        is_hash = isinstance(which, str) and which.startswith("0x")
        method = "eth_getBlockByHash" if is_hash else "eth_getBlockByNumber"
        params = [hex(which) if isinstance(which, int) else which, False]
        try:
            return to_block(await self.call(method, params, needs_result=True))
        except (Undecodable, RpcError) as error:
            raise Unanswered(f"{self.venue}: {method}: {error}") from error

    async def check_contracts(self, contracts: Mapping[str, str]) -> None:
        """Check that there is code at each address. Raises VenueFatal naming those without, Retryable."""
        try:
            codes = await asyncio.gather(*(self.call("eth_getCode", [a, "latest"]) for a in contracts.values()))
        except RpcError as error:
            raise Unanswered(f"{self.venue}: eth_getCode: {error}") from error
        missing = [f"{n} at {a}" for (n, a), code in zip(contracts.items(), codes, strict=True) if len(code or "") <= 2]
        if missing:
            raise VenueFatal(
                f"{self.venue}: expected code at every contract, found none at {', '.join(missing)}; "
                "hint: is the address of another chain?"
            )

    # What is held against them.

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All of them in order of preference, with what is held against each."""
        return tuple(self._nodes)

    @property
    def problems(self) -> tuple[str, ...]:
        """Say what is wrong, node by node, for people."""
        nodes = tuple(f"{node.name}: {_after_name(node)}" for node in self._nodes if node.trouble)
        return (*self._splits.values(), *([self._tip_split] if self._tip_split else []), *nodes)

    @property
    def health(self) -> tuple[VenueHealth, str]:
        """Judge whether the chain can be asked at all, and say why not."""
        if self._nodes and all(node.wrong for node in self._nodes):
            return VenueHealth.FATAL, self._everything_wrong()
        if self._splits:
            return VenueHealth.DOWN, "; ".join(self._splits.values())
        if not self._in_order():
            return VenueHealth.DOWN, f"no endpoint can be used: {self._everything_wrong()}"
        return VenueHealth.UP, ""

    def saw(self, height: int) -> None:
        """Take note of the newest head: whoever is found too far behind it at the next check is not asked."""
        self._head_height = height

    async def watch(self) -> None:
        """Check all nodes again and again; ends only by cancellation."""
        while True:
            await asyncio.sleep(self._period_ns / NS_PER_S)
            await self.check()

    async def check(self) -> None:
        """Ask every node where it is, and compare them a few blocks back; never raises."""
        now_ns, head_height = self._clock.now_ns(), self._head_height
        nodes = [node for node in self._nodes if node.asked_again_ns <= now_ns and not node.wrong]
        await asyncio.gather(*(self._probe(node) for node in nodes))
        level = [node for node in nodes if node.verified and not (node.wrong or node.failure)]
        best = max((node.height for node in level if not node.disputes), default=head_height)
        self.height = best
        for node in level:
            behind = max(best, head_height) - node.height
            node.lag = f"{behind} blocks behind, at {node.height}" if behind > self._max_lag_blocks else ""
        level = [node for node in level if not node.lag]
        if len(level) < 2:
            return
        number = max(0, min(node.height for node in level) - COMPARED_BLOCKS_BACK)
        hashes = await asyncio.gather(*(self._hash_at(node, number) for node in level))
        votes = {node: found for node, found in zip(level, hashes, strict=True) if found}
        self._judge("chain", f"at block {number}", votes)
        if any("answers" in node.disputes for node in level) and self._audited and "chain" not in self._splits:
            await self._compare(self._audited, Counter(votes.values()).most_common(1)[0][0], level)

    async def confirm(self, block: Block) -> None:
        """Check that the usable nodes have this very block. Raises Retryable, naming who has what, if not.

        Those that do not know the height yet, or do not answer soon, have no vote. Nodes outvoted are left out.
        """
        votes = await self._votes(self._in_order(), lambda node: self._hash_at(node, block.number))
        where = f"at block {block.number}"
        if not votes:
            return
        tally = Counter(votes.values())
        best, n_best = tally.most_common(1)[0]
        if len(tally) > 1 and 2 * n_best <= len(votes):
            # The tip may just be in the making, so this costs a block and not yet the nodes; `check` looks deeper.
            self._tip_split = f"{_who_says_what(votes)} {where}: no majority, nothing is believed"
            raise Retryable(f"{self.venue}: {self._tip_split}")
        self._tip_split = ""
        if len(votes) > 1:
            self._judge("chain", where, votes)
        if best != block.block_hash:
            raise Retryable(
                f"{self.venue}: expected block {block.number} to be {block.block_hash[:10]}…, found "
                f"{_who_says_what(votes)}: a reorg, or the source of heads is on another fork"
            )

    async def audit(self, call: dict[str, str], block_hash: str) -> None:
        """Ask all usable nodes the same call pinned to a block, to which there is one answer only; outvote the others.

        Raises Retryable, naming who says what, where no majority says the same.
        """
        self._audited = call
        await self._compare(call, block_hash, [node for node in self._nodes if not node.trouble])
        self._require_no_split()

    async def _compare(self, call: dict[str, str], block_hash: str, nodes: Sequence[Node]) -> None:
        params = [call, {"blockHash": block_hash}]
        results = await asyncio.gather(*(_caught(self._ask(node, "eth_call", params)) for node in nodes))
        votes = {
            node: "0x" + keccak(text=result.lower()).hex()
            for node, result in zip(nodes, results, strict=True)
            if isinstance(result, str)
        }
        self._judge("answers", f"to a call at block {block_hash[:10]}…", votes)

    def _require_no_split(self) -> None:
        if self._splits:
            raise Retryable(f"{self.venue}: {'; '.join(self._splits.values())}")

    # How they are judged.

    def _in_order(self) -> list[Node]:
        """Return whom to ask: the well ones by preference; if there are none, those whose connection failed."""
        now_ns = self._clock.now_ns()
        well = [node for node in self._nodes if not node.trouble]
        return well or [node for node in self._nodes if node.is_last_resort(now_ns)]

    async def _ask(self, node: Node, method: str, params: Sequence[object], *, is_probe: bool = False) -> Any:  # noqa: ANN401
        try:
            result = await node.endpoint.call(method, params)
        except Unanswered as error:
            node.fail(error, self._clock.now_ns())
            raise
        except (UnknownBlock, RpcError):
            node.succeed(is_probe=is_probe)
            raise
        node.succeed(is_probe=is_probe)
        return result

    async def _probe(self, node: Node) -> None:
        """Learn a node's chain id, once, and its height."""
        try:
            if not node.verified:
                found = to_int(await self._ask(node, "eth_chainId", (), is_probe=True))
                node.wrong = "" if found == self._chain_id else f"expected chain {self._chain_id}, found {found}"
                node.verified = True
            node.height = to_int(await self._ask(node, "eth_blockNumber", (), is_probe=True))
        except Undecodable as error:
            node.fail(Unanswered(f"{node.name}: {error}"), self._clock.now_ns())
        except Unanswered:
            pass  # `_ask` took note of it
        except (Retryable, RpcError) as error:
            node.fail(Unanswered(f"{node.name}: {error}"), self._clock.now_ns())

    async def _hash_at(self, node: Node, number: int) -> str:
        """Return the hash a node has at a height, "" if it has none or does not answer."""
        fields = await _caught(self._ask(node, "eth_getBlockByNumber", [hex(number), False], is_probe=True))
        if not isinstance(fields, dict):
            return ""
        node.height = max(node.height, number)
        return str(fields.get("hash", "")).lower()

    async def _votes(self, nodes: Sequence[Node], ask: Callable[[Node], Awaitable[str]]) -> dict[Node, str]:
        """Return what each node says, of those that say something before patience ends; the first is waited for."""
        tasks = {asyncio.ensure_future(ask(node)): node for node in nodes}
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self._patience_ns / NS_PER_S)
                if not any(task.done() and task.result() for task in tasks):
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return {node: task.result() for task, node in tasks.items() if task.done() and task.result()}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _judge(self, subject: str, where: str, votes: Mapping[Node, str]) -> None:
        """Leave out those whom a strict majority contradicts; where there is none, believe nobody.

        One voice alone neither convicts nor clears.
        """
        if len(votes) < 2:
            return
        best, n_best = Counter(votes.values()).most_common(1)[0]
        if 2 * n_best <= len(votes):
            self._splits[subject] = f"{_who_says_what(votes)} {where}: no majority, nothing is believed"
            for node in votes:
                node.disputes[subject] = f"disagrees with the others {where}"
            return
        for node, vote in votes.items():
            if vote == best:
                node.disputes.pop(subject, None)
            else:
                node.disputes[subject] = f"has {vote[:10]}… {where}, where {n_best} of {len(votes)} have {best[:10]}…"
        self._splits.pop(subject, None)

    def _everything_wrong(self) -> str:
        return "; ".join(f"{node.name}: {_after_name(node)}" for node in self._nodes if node.trouble)


def to_block(fields: Any) -> Block:  # noqa: ANN401
    """Return the header a node gives, over a socket or in an answer. Raises Undecodable on anything else."""
    try:
        return Block(
            number=to_int(fields["number"]),
            block_hash=str(fields["hash"]).lower(),
            parent_hash=str(fields["parentHash"]).lower(),
            timestamp_s=to_int(fields["timestamp"]),
            base_fee_wei=to_int(fields.get("baseFeePerGas") or "0x0"),
            gas_used=to_int(fields["gasUsed"]),
            gas_limit=to_int(fields["gasLimit"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise Undecodable(f"expected a block's header, found {str(fields)[:80]!r}: {error!r}") from error


async def _caught(call: Awaitable[Any]) -> Any:  # noqa: ANN401
    """Return what a call returns, or the error it raises."""
    try:
        return await call
    except (Retryable, RpcError) as error:
        return error


def _after_name(node: Node) -> str:
    return node.trouble.removeprefix(f"{node.name}: ")


def _who_says_what(votes: Mapping[Node, str]) -> str:
    """Return who has which answer, in words."""
    return " and ".join(f"{node.name} has {vote[:10]}…" for node, vote in votes.items())
