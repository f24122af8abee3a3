"""Camera images of a MuJoCo model without the ways in which shared GL state goes wrong.

Each `Cameras` owns one GL context, which is current only while it draws, reads or frees. Freeing GL
objects while another context is current destroys that context's buffers, and the next image there
is uninitialised memory without any error; robosuite's own renderer does this after a hard reset.
A context that stays current in one thread and is freed in another ends the process.
"""

import atexit
import importlib
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vp_agent.errors import SimulatorError

RenderQuality = Literal["full", "fast"]
RENDER_QUALITIES: tuple[RenderQuality, ...] = ("full", "fast")
Transform = Literal["flip_v", "raw", "rot180"]
# from the upright image, which is what a viewer in the simulator would see
TRANSFORMS: dict[Transform, Callable[[np.ndarray], np.ndarray]] = {
    "flip_v": lambda image: image,
    "raw": lambda image: image[::-1],
    "rot180": lambda image: image[:, ::-1],
}

_VISUAL_GROUP = 1  # robosuite: group 0 holds the collision geoms, 1 what is meant to be seen
# pixels are nearly free on a CPU (the cost is per vertex), and with them smooth edges
_FAST_OVERSAMPLING = 2
_FAST_SHADOW_MAP = 1024  # enough for small images; MuJoCo's default is 4096
_APT = {
    "osmesa": "apt-get install -y libosmesa6",
    "egl": "apt-get install -y libegl1 libgl1-mesa-dri",
}


def choose_gl() -> str:
    """Sets MUJOCO_GL, if the user has not, before MuJoCo reads it at import."""
    if not os.environ.get("MUJOCO_GL") and sys.platform == "linux":
        gpu = any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/dri"))
        os.environ["MUJOCO_GL"] = "egl" if gpu else "osmesa"
    return os.environ.get("MUJOCO_GL", "")


def gl_fix() -> str:
    """The command that brings the libraries of the chosen backend."""
    gl = os.environ.get("MUJOCO_GL", "")
    fix = _APT.get(gl, _APT["osmesa"] + " && export MUJOCO_GL=osmesa")
    platform = os.environ.get("PYOPENGL_PLATFORM", gl)
    if gl and platform != gl:
        fix = f"unset PYOPENGL_PLATFORM (it is {platform!r}); " + fix
    return fix


def gl_error(cause: BaseException) -> SimulatorError:
    """What to say when no image can be drawn on this machine."""
    gl = os.environ.get("MUJOCO_GL", "")
    try:
        reason = f"{type(cause).__name__}: {cause}"
    except Exception:  # PyOpenGL's EGLError cannot be printed when EGL itself is missing
        reason = type(cause).__name__
    return SimulatorError(
        f"MuJoCo cannot draw images with MUJOCO_GL={gl!r} ({reason}). "
        f"It needs the OpenGL libraries: {gl_fix()}"
    )


class Cameras:
    """Draws the cameras of one MuJoCo model as upright RGB images.

    Attributes:
        gl_version: renderer and version of OpenGL, as the driver names them; "" if unknown.
    """

    def __init__(
        self,
        model: Any,
        *,
        resolution: tuple[int, int],
        quality: RenderQuality,
        sites: bool = False,
    ) -> None:
        """Takes the GL context.

        Args:
            model: a `mujoco.MjModel`.
            resolution: (height, width) of the images.
            quality: see `RobosuiteEnv`.
            sites: draw sites too, those of the groups that MuJoCo shows by default.
        """
        self._mujoco: Any = importlib.import_module("mujoco")  # its C names have no stubs
        mujoco = self._mujoco
        self._model = model
        self._fast = quality == "fast"
        self._scale = _FAST_OVERSAMPLING if self._fast else 1
        height, width = (size * self._scale for size in resolution)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        if self._fast:
            model.vis.quality.offsamples = 0
            model.vis.quality.shadowsize = _FAST_SHADOW_MAP
        self._context = self._gl = None
        try:
            self._gl = mujoco.GLContext(width, height)
            with _current(self._gl):
                scale = mujoco.mjtFontScale.mjFONTSCALE_100.value
                self._context = mujoco.MjrContext(model, scale)
                mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
                self.gl_version = _gl_version()
        except Exception as error:  # every GL backend raises its own kind
            if self._gl is not None:
                _free(self._gl, self._context)
            raise gl_error(error) from error
        self._free = weakref.finalize(self, _free, self._gl, self._context)
        # Exit hooks run last in, first out: this one comes before MuJoCo's, which ends EGL and was
        # registered with the first context; finalize's own hook may be older and come too late.
        self._free.atexit = False
        atexit.register(self._free)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = not self._fast
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[_VISUAL_GROUP] = 1
        if not sites:
            self._option.sitegroup[:] = 0
        self._pixels = np.empty((height, width, 3), np.uint8)

    def draw(self, data: Any, cameras: Iterable[str]) -> list[np.ndarray]:
        """One (H, W, 3) uint8 image per camera name."""
        if self._gl is None:
            raise SimulatorError("these cameras are closed; make a new environment")
        with _current(self._gl):
            return [self._draw(data, self._model.camera(camera).id) for camera in cameras]

    def _draw(self, data: Any, camera_id: int) -> np.ndarray:
        mujoco = self._mujoco
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = camera_id
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, camera, everything, self._scene
        )
        mujoco.mjr_render(self._rect, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context)
        upright = self._pixels[::-1]  # OpenGL's first row is the lowest
        if self._scale == 1:
            return upright.copy()
        height, width = (size // self._scale for size in upright.shape[:2])
        blocks = upright.reshape(height, self._scale, width, self._scale, 3)
        total = blocks.sum(axis=(1, 3), dtype=np.uint16)
        area = self._scale**2
        return ((total + area // 2) // area).astype(np.uint8)

    def close(self) -> None:
        """Frees the GL objects inside their own context; may be called twice."""
        atexit.unregister(self._free)
        self._free()
        self._gl = None


def _gl_version() -> str:
    """Of the current context."""
    try:
        gl: Any = importlib.import_module("OpenGL.GL")
        return ", ".join(gl.glGetString(name).decode() for name in (gl.GL_RENDERER, gl.GL_VERSION))
    except Exception:  # MuJoCo draws without PyOpenGL's GL, and every backend raises its own kind
        return ""


def _free(gl: Any, context: Any) -> None:
    if context is None:
        gl.free()
        return
    with _current(gl):
        context.free()
        gl.free()


@contextmanager
def _current(gl: Any) -> Iterator[None]:
    """Makes `gl` this thread's context within the block; afterwards any thread may take it."""
    restore = _restorer(gl)
    try:
        gl.make_current()
        yield
    finally:
        restore()


def _restorer(gl: Any) -> Callable[[], object]:
    """Makes current again what is current now: another library's context, ours, or none.

    robosuite's own renderer makes its context current once and counts on it. MuJoCo has no word
    for any of this.
    """
    backend: Any = sys.modules[type(gl).__module__]
    if hasattr(backend, "osmesa"):
        osmesa = backend.osmesa
        now = osmesa.OSMesaGetCurrentContext()
        if not now:
            return lambda: osmesa.OSMesaMakeCurrent(None, None, backend.GL.GL_FLOAT, 0, 0)
        width, height, _, buffer = osmesa.OSMesaGetColorBuffer(now)
        kind = osmesa.OSMesaGetIntegerv(osmesa.OSMESA_TYPE)
        return lambda: osmesa.OSMesaMakeCurrent(now, buffer, kind, width, height)
    if hasattr(backend, "EGL"):
        egl = backend.EGL
        surfaces = [egl.eglGetCurrentSurface(side) for side in (egl.EGL_DRAW, egl.EGL_READ)]
        now = egl.eglGetCurrentContext()
        return lambda: egl.eglMakeCurrent(backend.EGL_DISPLAY, *surfaces, now)
    if hasattr(backend, "glfw"):
        window = backend.glfw.get_current_context()
        return lambda: backend.glfw.make_context_current(window)
    return lambda: None
