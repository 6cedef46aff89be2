"""A fork releases every lock, whatever one of the objects raises that are told of it."""

import subprocess
import sys
import textwrap


def test_an_object_that_raises_after_a_fork_leaves_no_lock_held(tmp_path):
    script = """
        import os, sys, threading
        from stateview import StateManager
        from stateview.backends.fork import watch_fork

        class Raising:
            def before_fork(self):
                pass

            def after_fork(self, child):
                raise ValueError("told of a fork")

        def works(turn):
            threads = [
                threading.Thread(target=state.save, args=("k", turn), daemon=True),
                threading.Thread(target=lambda: os.fork() or os._exit(0), daemon=True),
            ]
            for thread in threads:
                thread.start()
                thread.join(20)
            return not any(thread.is_alive() for thread in threads)

        raising = [Raising() for _ in range(4)]
        for one in raising[:2]:
            watch_fork(one)
        state = StateManager(sys.argv[1], "main")
        state.save("k", 0)
        for one in raising[2:]:
            watch_fork(one)
        if (child := os.fork()) == 0:
            os._exit(not works(1))
        assert os.waitpid(child, 0)[1] == 0
        assert works(2)
        """
    for kind in ("json", "sqlite"):
        command = [sys.executable, "-c", textwrap.dedent(script), f"{kind}:{tmp_path}"]
        subprocess.run(command, check=True, timeout=100, stderr=subprocess.DEVNULL)
