"""Samples of benchmarks and their table."""
import sys
import time


class Series:
    def __init__(self, label):
        self.label, self.ms, self.errors = label, [], 0

    def quantile(self, q):
        """Nearest rank; None without a sample."""
        v = sorted(self.ms)
        return v[min(int(q * len(v)), len(v) - 1)] if v else None

    @property
    def p50(self):
        return self.quantile(0.5)


def measure(series, what, right=bool):
    """Runs what(); right(its result) tells, after the clock has stopped, whether it was as it must be."""
    start = spent = time.perf_counter()
    try:
        result = what()
        spent = (time.perf_counter() - start) * 1000
        right = right(result)
    except Exception as e:
        print(f"  {series.label}: {e}", file=sys.stderr)
        right = False
    if right:
        series.ms.append(spent)
    else:
        series.errors += 1


def table(all_series):
    print(f"\n{'':52} {'n':>4} {'p50 ms':>9} {'p99 ms':>9} {'errors':>6}")
    for s in all_series:
        print(f"{s.label:52} {len(s.ms):4d} " +
              (f"{s.p50:9.1f} {s.quantile(0.99):9.1f}" if s.ms else f"{'-':>9} {'-':>9}") +
              f" {s.errors:6d}")
