"""Bars: on a terminal alone, and never in the way."""

import os
import pty
import subprocess
import sys
import termios

CODE = """
import sys
from castline.bars import Bar, counted
found = [thing for thing in counted(iter("abc"), "letters", "letter", 3)]
with Bar("numbers", "number", 5) as bar:
    bar.update(5)
for first in counted("abc", "left early", "letter", 3):
    break
print(found, first, "tqdm" in sys.modules)
"""


def test_a_terminal_sees_how_far_it_is() -> None:
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    try:
        done = subprocess.run([sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=end, text=True, check=True)
        seen = os.read(terminal, 100_000).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert done.stdout == "['a', 'b', 'c'] a True\n"
    assert "letters: 100%" in seen and "3/3" in seen and "numbers: 100%" in seen and "left early:   0%" in seen


def test_elsewhere_nothing_is_drawn_or_imported() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "['a', 'b', 'c'] a False\n" and done.stderr == ""
