"""Rows about the start of a program inside `sluice exec`."""

from benchmark.row import Group, Row


class Start(Group):
    """What a program's start takes longer inside than by itself: `true`, which ends at once, so that the
    end is in it, too. hyperfine measures all of them in one go, of which each round has one."""

    name = "start"
    RUNS = 40
    BARE = Row("start_bare", "start and end of true, bare", "ms", more_is_better=False)
    rows = (BARE, *(
        row for upstream, title in (("embedded", "embedded server"), ("socks", "SOCKS5 server"))
        for row in (
            Row(f"start_{upstream}", f"the same inside, {title}: in addition", "ms", False),
            Row(f"start_{upstream}_ratio", f"the same inside, {title}: ratio", "times bare", False))
    ))

    def measure(self, visit):
        if not visit.contestant.starts_programs:
            return {}
        bare, *inside = visit.contestant.measure_starts(visit.arena, self.RUNS)
        found = {self.BARE.key: bare * 1e3}
        for name, seconds in zip(("embedded", "socks"), inside, strict=True):
            found[f"start_{name}"] = (seconds - bare) * 1e3
            found[f"start_{name}_ratio"] = seconds / bare
        return found
