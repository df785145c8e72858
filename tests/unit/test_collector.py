from __future__ import annotations

import gc

from p2pfl.collector import uncollected


def test_an_import_is_not_interrupted_by_the_garbage_collector_which_goes_on_after_it() -> None:
    try:
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0, "what was made is never looked at again"
    finally:
        gc.unfreeze()
