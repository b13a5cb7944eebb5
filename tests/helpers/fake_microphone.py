"""A module that takes the place of sounddevice and plays a recording."""

import sys
import threading
import types

from light_sernet_kd.device import listen


class FakeInput:
    def __init__(self, world, **settings):
        self.world = world
        world.opened.append(settings)
        if settings["samplerate"] in world.refused:
            raise world.module.PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        self.settings = settings
        self.thread = threading.Thread(target=self.play)

    def start(self):
        if self.world.start_fails:
            raise self.world.module.PortAudioError("Device unavailable [PaErrorCode -9985]")
        self.thread.start()

    def close(self):
        self.world.closed += 1
        if self.thread.ident:
            self.thread.join()

    def play(self):
        size = self.settings["blocksize"]
        sound = self.world.sound
        for number, at in enumerate(range(0, len(sound), size)):
            status = types.SimpleNamespace(input_overflow=number in self.world.overflows)
            self.settings["callback"](sound[at : at + size, None], size, None, status)


class World:
    """What the fake module plays and refuses, and what was asked of it."""

    def __init__(self, sound, *, rate=48_000, refused=(), overflows=(), devices=1, start_fails=False):
        self.sound, self.rate, self.refused, self.overflows = sound, rate, refused, overflows
        self.start_fails = start_fails
        self.opened: list[dict] = []
        self.closed = 0
        self.module = types.ModuleType("sounddevice")
        self.module.PortAudioError = type("PortAudioError", (Exception,), {})
        self.module.InputStream = lambda **settings: FakeInput(self, **settings)
        listed = [{"name": "Tape", "max_input_channels": 1, "default_samplerate": float(rate)}][:devices]

        def query_devices(device=None, kind=None):
            if kind is None:
                return listed
            if not listed:
                raise self.module.PortAudioError("Error querying device -1")
            if isinstance(device, str) and device.lower() not in "tape":
                raise ValueError(f"No input device matching {device!r}")
            return listed[0]

        self.module.query_devices = query_devices


def plugged(monkeypatch, sound, **settings) -> World:
    """The world in which `listen` hears this sound."""
    world = World(sound, **settings)
    monkeypatch.setitem(sys.modules, "sounddevice", world.module)
    monkeypatch.setattr(listen, "_HELD_BLOCKS", 100_000)
    return world
