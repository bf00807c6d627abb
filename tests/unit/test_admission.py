"""Whether devices are let in: the words that connections and receivers get."""

from m365proxy.admission import Admission
from m365proxy.receivers.words import Task
from m365proxy.system.readiness import Readiness


class Shut:
    """What stands for connections and receivers."""

    def __init__(self):
        self.said = []

    def shut(self, why, wake):
        self.said.append((why, wake))

    def tell(self, task, *values):
        assert task is Task.SHUT
        self.said.append(values)


def test_draining_lasts_and_a_hanging_disk_does_not(caplog, tmp_path):
    connections, receivers = Shut(), Shut()
    admission = Admission(connections, receivers, str(tmp_path))
    admission.set_hanging(True)
    admission.set_hanging(False)
    assert not admission.is_draining and admission.readiness() is Readiness.READY
    admission.drain()
    admission.set_hanging(True)
    admission.set_hanging(False)
    admission.drain()
    assert admission.is_draining and admission.readiness() is Readiness.DRAINING
    drained = ("m365proxy is being drained", "smtp")
    assert connections.said == [("the disk does not answer", ""), ("", ""), drained, drained, drained, drained]
    assert receivers.said == connections.said
    assert caplog.text.count("draining") == 1
