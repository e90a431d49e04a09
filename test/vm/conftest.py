"""Makes the rig and the other tests' support importable."""

import os
import pathlib
import sys

VM = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(VM), str(VM.parent)]
# Tools for administrators, where the user's path lacks them.
os.environ["PATH"] += ":/usr/sbin:/sbin"
