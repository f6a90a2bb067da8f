"""Execute one notebook and measure it: seconds by cell, peak memory of its kernel, the first error."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError


@dataclass
class Execution:
    """What happened when a notebook ran; ``nb`` holds the outputs up to the failing cell."""

    nb: nbformat.NotebookNode
    seconds: float = 0.0
    peak_bytes: int = 0
    cell_seconds: dict[int, float] = field(default_factory=dict)
    failed_cell: int | None = None  # index among all cells, from 0
    error: str = ""


def _sample_memory(client: NotebookClient, stop: threading.Event, peak: list[int]) -> None:
    while not stop.wait(0.1):
        pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
        if not pid:
            continue
        try:
            kernel = psutil.Process(pid)
            total = sum(p.memory_info().rss for p in [kernel, *kernel.children(recursive=True)])
        except psutil.Error:  # the kernel just ended
            continue
        peak[0] = max(peak[0], total)


def execute(path: Path, timeout: float, on_cell=lambda index, count: None) -> Execution:
    """Run a notebook top to bottom in its own folder; an error in it is reported, not raised.

    Args:
        timeout: seconds one cell may take.
        on_cell: called with the index and the number of cells before each cell runs.
    """
    nb = nbformat.read(path, as_version=4)
    result, begun, current = Execution(nb), {}, [None]

    def before(cell, cell_index):
        begun[cell_index], current[0] = time.monotonic(), cell_index
        on_cell(cell_index, len(nb.cells))

    def after(cell, cell_index, **_):
        result.cell_seconds[cell_index] = time.monotonic() - begun[cell_index]

    client = NotebookClient(
        nb, timeout=timeout, kernel_name="python3", store_widget_state=True, extra_arguments=["--log-level=40"],
        coalesce_streams=True,  # a progress bar is one line, not one for each of its steps
        resources={"metadata": {"path": str(path.parent)}}, on_cell_execute=before, on_cell_executed=after,
    )  # fmt: skip
    stop, peak, start = threading.Event(), [0], time.monotonic()
    sampler = threading.Thread(target=_sample_memory, args=(client, stop, peak), daemon=True)
    sampler.start()
    try:
        client.execute()
    except CellExecutionError as error:
        result.failed_cell, result.error = current[0], f"{error.ename}: {error.evalue}"
    except CellTimeoutError:
        result.failed_cell, result.error = current[0], f"took longer than {timeout:.0f} s"
    except DeadKernelError:
        result.failed_cell, result.error = current[0], "the kernel died, most often for lack of memory"
    finally:
        stop.set()
        sampler.join()
        # nbclient needs the widgets' state while it runs (an Output widget fails without); no page can use it.
        nb.metadata.pop("widgets", None)
    result.seconds, result.peak_bytes = time.monotonic() - start, peak[0]
    return result
