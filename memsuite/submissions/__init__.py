"""Results that somebody sends for the leaderboard: one file that is whole, can be checked, and can be run again."""

from memsuite.submissions.content import FORMAT, digest_of, make_submission
from memsuite.submissions.rerun import Rerun, rerun
from memsuite.submissions.verify import read_submission, verify

__all__ = ["FORMAT", "Rerun", "digest_of", "make_submission", "read_submission", "rerun", "verify"]
