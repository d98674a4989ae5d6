import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The laws call small operations: a second thread only waits for its turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
