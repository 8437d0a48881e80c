"""The doctor's checks against trees of machines that are not here."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from cell.recipes import Recipe
from cell.settings import CameraSettings, Settings
from daemon.ctl.doctor import host, network, permissions, usb
from daemon.ctl.doctor.machine import Check, Level, Machine
from tests.ctl.bench_cell import configured, runner, twelve_bit

BASLER, PRINTER = "00:30:53:1a:2b:3c", "aa:bb:cc:dd:ee:ff"


def put(root: Path, **files: object) -> Path:
    """Write files below a root; `__` in a name is a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("..", "__")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def wired(root: Path, name: str = "eth1", mtu: int = 1500, speed: int = 1000, state: str = "up") -> None:
    folder = root / "sys/class/net" / name
    (folder / "device").mkdir(parents=True)
    for key, value in (("type", 1), ("mtu", mtu), ("speed", speed), ("operstate", state)):
        (folder / key).write_text(f"{value}\n")


def neighbour(root: Path, mac: str, interface: str = "eth1", address: str = "192.168.3.4") -> None:
    head = "IP address       HW type     Flags       HW address            Mask     Device\n"
    put(root, proc__net__arp=f"{head}{address}      0x1         0x2         {mac}     *        {interface}")


def level(checks: list[Check], name: str) -> Level:
    return next(check.level for check in checks if check.name == name)


def found(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name.startswith(name))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine as it comes: one wired interface, the kernel's own limits."""
    wired(tmp_path)
    (tmp_path / "sys/class/net/lo").mkdir()
    put(
        tmp_path,
        proc__sys__net__core__rmem_max=212992,
        proc__sys__net__core__netdev_max_backlog=1000,
        sys__module__usbcore__parameters__usbfs_memory_mb=16,
        proc__meminfo="MemTotal:       8000000 kB\nMemAvailable:    4000000 kB",
        proc__net__snmp="Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 100 0 7 100 7",
    )
    return tmp_path


def test_shortfalls_are_advice_until_a_camera_is_on_the_network(root: Path) -> None:
    checks = network.checks(Machine(root))
    assert {check.level for check in checks} == {Level.ADVICE, Level.OK}
    neighbour(root, PRINTER)
    assert Level.WRONG not in {check.level for check in network.checks(Machine(root))}
    neighbour(root, BASLER)
    checks = network.checks(Machine(root))
    assert level(checks, "eth1 (Basler) MTU") is Level.WRONG
    assert level(checks, "receive buffer") is Level.WRONG
    assert level(checks, "packet queue") is Level.WRONG
    assert level(checks, "lost datagrams") is Level.WRONG
    assert found(checks, "eth1 (Basler) MTU").mend.startswith("sudo ip link set eth1 mtu 9000")
    assert all(check.mend for check in checks if check.level is Level.WRONG)


def test_a_camera_is_known_by_the_address_that_it_tells(root: Path) -> None:
    neighbour(root, PRINTER, address="169.254.7.7")
    assert network.interfaces(Machine(root))[0].cameras == ()
    assert network.interfaces(Machine(root), ("169.254.7.7",))[0].cameras == ("camera",)


def test_only_the_interface_of_the_camera_is_judged(root: Path) -> None:
    wired(root, "eth2", speed=100)
    neighbour(root, BASLER)
    names = " ".join(check.name for check in network.checks(Machine(root)))
    assert "eth1" in names
    assert "eth2" not in names


def test_what_is_set_up_as_it_should_be_is_ok(root: Path) -> None:
    (root / "sys/class/net/eth1/mtu").write_text("9000\n")
    neighbour(root, BASLER)
    put(
        root,
        proc__sys__net__core__rmem_max=33554432,
        proc__sys__net__core__netdev_max_backlog=10000,
        proc__net__snmp="Udp: InDatagrams RcvbufErrors\nUdp: 100 0",
        proc__sys__net__ipv4__conf__all__rp_filter=0,
        proc__sys__net__ipv4__conf__eth1__rp_filter=2,
    )
    checks = network.checks(Machine(root))
    assert {check.level for check in checks} == {Level.OK}
    assert not any(check.mend for check in checks)


@pytest.mark.parametrize(("everywhere", "here", "strict"), [(0, 0, False), (1, 0, True), (0, 1, True), (1, 2, False)])
def test_the_kernel_takes_the_larger_reverse_path_filter(root: Path, everywhere: int, here: int, strict: bool) -> None:
    put(root, proc__sys__net__ipv4__conf__all__rp_filter=everywhere)
    put(root, proc__sys__net__ipv4__conf__eth1__rp_filter=here)
    check = found(network.checks(Machine(root)), "eth1 reverse")
    assert (check.level is Level.ADVICE) is strict
    assert ("sysctl" in check.mend) is strict


def test_a_fallen_back_link_and_errors_of_the_card_are_found(root: Path) -> None:
    (root / "sys/class/net/eth1/speed").write_text("100\n")
    put(root, sys__class__net__eth1__statistics__rx_missed_errors=12)
    neighbour(root, BASLER)
    checks = network.checks(Machine(root))
    assert level(checks, "eth1 link") is Level.WRONG
    assert "12 rx_missed_errors" in found(checks, "eth1 losses").found


@pytest.mark.parametrize(
    ("file", "command"), [("etc__ufw__ufw.conf", "ufw allow"), ("run__firewalld.pid", "firewall-cmd")]
)
def test_a_firewall_is_named_with_the_way_through(root: Path, file: str, command: str) -> None:
    neighbour(root, BASLER)
    assert found(network.checks(Machine(root)), "firewall").level is Level.OK
    put(root, **{file: "ENABLED=yes"})
    check = found(network.checks(Machine(root)), "firewall")
    assert check.level is Level.ADVICE
    assert command in check.mend
    assert "eth1" in check.mend


def test_no_wired_interface_is_said(tmp_path: Path) -> None:
    wired(tmp_path, state="down")
    checks = network.checks(Machine(tmp_path))
    assert found(checks, "MTU").level is Level.UNKNOWN
    assert "plug" in found(checks, "MTU").mend
    assert {"receive buffer", "packet queue", "lost datagrams", "firewall"} < {check.name for check in checks}


def plugged(root: Path, speed: int = 5000, mode: int = 0o664) -> Path:
    """Plug in a USB3 Vision camera beside a keyboard."""
    devices = root / "sys/bus/usb/devices"
    for device, kind in (("2-1", ("ef", "05")), ("1-3", ("03", "01"))):
        for name, text in (("product", "acA1920"), ("idVendor", "2676"), ("speed", str(speed))):
            put(devices / device, **{name: text})
        put(devices / device, busnum=device[0], devnum=7)
        put(devices / f"{device}:1.0", bInterfaceClass=kind[0], bInterfaceSubClass=kind[1])
    node = root / "dev/bus/usb/002/007"
    put(root, dev__bus__usb__002__007="")
    node.chmod(mode)
    return node


def test_a_usb_camera_needs_memory_speed_and_permission(root: Path) -> None:
    checks = usb.checks(Machine(root))
    assert [check.name for check in checks] == ["USB memory", "USB permission"], "no camera is there"
    assert {check.level for check in checks} == {Level.ADVICE}
    plugged(root, speed=480)
    account = Machine(root, account="nobody")
    checks = usb.checks(account)
    assert level(checks, "USB memory") is Level.WRONG
    assert level(checks, "acA1920 link") is Level.WRONG
    assert level(checks, "acA1920 permission") is Level.WRONG
    rule = found(checks, "acA1920 permission").mend
    assert 'ATTR{idVendor}=="2676"' in rule
    assert "udevadm control --reload" in rule
    put(root, sys__module__usbcore__parameters__usbfs_memory_mb=1000)
    (root / "sys/bus/usb/devices/2-1/speed").write_text("10000\n")
    plugged_node = root / "dev/bus/usb/002/007"
    plugged_node.chmod(0o666)
    assert {check.level for check in usb.checks(account)} == {Level.OK}
    put(root, sys__module__usbcore__parameters__usbfs_memory_mb=0)
    assert level(usb.checks(account), "USB memory") is Level.OK, "0 is no limit"


def test_a_node_is_writable_by_its_group(root: Path) -> None:
    node = plugged(root, mode=0o660)
    machine = Machine(root, account="nobody")
    allowed, told = machine.may_write(node)
    assert not allowed
    assert told.startswith("0660 ")


def test_the_libraries_of_the_drivers_are_looked_for(root: Path, tmp_path: Path) -> None:
    def version(name: str) -> str:
        if name == "pypylon":
            return "4.2"
        raise importlib.metadata.PackageNotFoundError(name)

    def settings(*drivers: str) -> Settings:
        first, *others = (CameraSettings.model_validate({"driver": driver}) for driver in drivers)
        return Settings(
            camera=first, cameras={f"c{n}": camera for n, camera in enumerate(others)}, recipes_dir=tmp_path / "none"
        )

    checks = host.checks(Machine(root), settings("pylon"), version)
    assert found(checks, "pypylon").level is Level.OK
    assert "harvesters" not in {check.name for check in checks}
    checks = host.checks(Machine(root), settings("pylon", "genicam"), version)
    assert found(checks, "harvesters").level is Level.WRONG
    assert "pip install harvesters" in found(checks, "harvesters").mend
    named = {check.name for check in host.checks(Machine(root), settings("simulated"), version)}
    assert named.isdisjoint({"pypylon", "harvesters", "pylon transport layers"})


def producers(root: Path, *files: Path, searched: str = "") -> list[Check]:
    settings = Settings(camera=CameraSettings(driver="genicam", producers=files), recipes_dir=root / "none")
    environment = {"GENICAM_GENTL64_PATH": searched} if searched else {}
    checks = host.checks(Machine(root, environment), settings)
    return [check for check in checks if check.name.startswith(("producer", "GenTL"))]


def test_a_producer_is_loaded_where_it_can_do_no_harm(root: Path, tmp_path: Path) -> None:
    import genicam

    real = next(Path(genicam.__file__).parent.rglob("viky.cti"))
    assert [check.level for check in producers(root)] == [Level.WRONG]
    assert "not set" in producers(root)[0].found
    assert [(check.name, check.level) for check in producers(root, real)] == [("producer viky.cti", Level.OK)]
    assert [check.level for check in producers(root, searched=str(real.parent))] == [Level.OK]
    broken = tmp_path / "broken.cti"
    broken.write_bytes(b"not a library")
    missing = tmp_path / "missing.cti"
    checks = producers(root, real, broken, missing)
    assert [check.level for check in checks] == [Level.OK, Level.WRONG, Level.WRONG]
    assert "ldd" in checks[1].mend


def test_every_driver_is_checked_for_all_that_loses_frames(root: Path) -> None:
    """Permissions, producers, network, USB and clock: what is missing may be what another driver would need."""
    wanted = {"MTU", "receive buffer", "USB memory", "USB permission", "real-time permission", "clock"}
    for driver, producer in (("pylon", Level.OK), ("simulated", Level.OK), ("genicam", Level.WRONG)):
        settings = Settings(camera=CameraSettings.model_validate({"driver": driver}), recipes_dir=root / "none")
        machine = Machine(root, environment={}, synchronised=False, priority=0)
        checks = [*network.checks(machine), *usb.checks(machine), *host.checks(machine, settings)]
        names = {check.name.removeprefix("eth1 ") for check in checks}
        assert wanted < names, driver
        assert level(checks, "GenTL producers") is producer, driver
        layers = {check.level for check in checks if check.name == "pylon transport layers"}
        assert layers == ({Level.OK} if driver == "pylon" else set())
        assert all(check.found and check.wanted for check in checks), driver
        assert all(check.mend for check in checks if check.level in {Level.WRONG, Level.ADVICE}), driver


def test_a_broken_producer_that_no_camera_needs_is_advice(root: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.cti").write_bytes(b"not a library")
    machine = Machine(root, {"GENICAM_GENTL64_PATH": str(tmp_path)})
    checks = host.checks(machine, Settings(camera=CameraSettings(driver="simulated"), recipes_dir=root / "none"))
    assert level(checks, "producer broken.cti") is Level.ADVICE


def test_real_time_priority_comes_from_the_unit_or_from_the_limits(root: Path) -> None:
    def permission(limit: int) -> Check:
        return permissions.priority(Machine(root, account="nobody", priority=limit))

    assert permission(0).level is Level.ADVICE
    assert "nobody - rtprio" in permission(0).mend
    assert permission(50).level is Level.OK
    put(root, **{"etc__systemd__system__inspectd.service": "[Service]\nLimitRTPRIO=50"})
    assert permission(0).level is Level.OK


def test_a_rule_that_opens_a_makers_cameras_is_found(root: Path) -> None:
    rules = root / "etc/udev/rules.d"
    put(rules, **{"10-keys.rules": 'ATTR{idVendor}=="046d", MODE="0666"'})
    put(rules, **{"20-names.rules": 'ATTR{idVendor}=="2676", SYMLINK+="camera"'})
    assert permissions.usb_rules(Machine(root)).level is Level.ADVICE, "neither opens a camera"
    put(rules, **{"69-basler-cameras.rules": 'SUBSYSTEM=="usb", ATTRS{idVendor}=="2676", MODE="0666"'})
    check = permissions.usb_rules(Machine(root))
    assert (check.level, "Basler (69-basler-cameras.rules)" in check.found) == (Level.OK, True)


def test_memory_must_hold_a_few_parts_of_the_largest_recipe(root: Path, tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    large = Recipe.model_validate(
        twelve_bit(lights=8).model_dump() | {"height": 8000, "width": 8000, "roi": None, "exclusions": ()}
    )
    settings = Settings(recipes_dir=recipes)
    (recipes / "damaged.json").write_text("{")
    assert level(host.checks(Machine(root), settings), "memory for frames") is Level.OK
    (recipes / "large.json").write_text(large.model_dump_json())
    check = found(host.checks(Machine(root), settings), "memory for frames")
    assert check.level is Level.WRONG
    assert "3906 MB" in check.found


def test_the_governor_and_the_clock(root: Path) -> None:
    settings = Settings(recipes_dir=root / "none")
    assert found(host.checks(Machine(root), settings), "processor").level is Level.UNKNOWN
    for number, governor in enumerate(("powersave", "performance")):
        put(root, **{f"sys__devices__system__cpu__cpu{number}__cpufreq__scaling_governor": governor})
    check = found(host.checks(Machine(root), settings), "processor")
    assert check.level is Level.ADVICE
    assert check.found == "1 x performance, 1 x powersave"
    for kept, expected in ((True, Level.OK), (False, Level.ADVICE)):
        assert found(host.checks(Machine(root, synchronised=kept), settings), "clock").level is expected
    assert Machine().clock_is_set() in {True, False, None}


def test_every_mending_command_is_one_a_shell_can_read(root: Path) -> None:
    neighbour(root, BASLER)
    plugged(root)
    put(root, proc__sys__net__ipv4__conf__all__rp_filter=1)
    checks = [*network.checks(Machine(root)), *usb.checks(Machine(root, account="nobody"))]
    commands = [check.mend for check in checks if check.mend.startswith(("sudo", "echo"))]
    assert len(commands) >= 5
    for command in commands:
        before = command.partition(", and ")[0]
        assert shlex.split(before)
        subprocess.run(["bash", "-n", "-c", before], check=True, capture_output=True)


def test_a_camera_that_does_not_answer_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = 'device = "nosuch"\nproducers = ["/nonexistent.cti"]'
    file = configured(tmp_path, twelve_bit(), camera=settings)
    file.write_text(file.read_text().replace('driver = "simulated"', 'driver = "genicam"'))
    run = runner(file, capsys)
    code, out, err = run("doctor", "camera", "--json")
    assert (code, err) == (1, "")
    checks = {check["check"]: check for check in json.loads(out)["checks"]}
    assert checks["cameras"]["level"] == "WRONG"
    assert checks["producer nonexistent.cti"]["level"] == "WRONG"
    code, out, _ = run("doctor", "camera")
    assert code == 1
    assert "WRONG" in out
    code, out, _ = run("doctor", "camera", "--no-open", "--json")
    assert "cameras" not in {check["check"] for check in json.loads(out)["checks"]}


def test_it_reads_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runner(configured(tmp_path, twelve_bit()), capsys)
    code, out, err = run("doctor", "camera", "--json")
    assert err == ""
    checks = json.loads(out)["checks"]
    assert code == (1 if any(check["level"] == "WRONG" for check in checks) else 0)
    assert {"camera", "memory for frames", "clock"} <= {check["check"] for check in checks}
    assert all(check["found"] for check in checks)
    assert all(check["mend"] for check in checks if check["level"] in {"WRONG", "advice"})
