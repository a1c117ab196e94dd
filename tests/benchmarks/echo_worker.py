"""A worker for the tests of the turns: it doubles numbers, talks too much, and fails when asked to."""

import os

from benchmarks.speed_turns import serve


class Echo:
    def double(self, number: int) -> dict:
        print("a library's chatter")
        os.write(1, b"and a C library's\n")
        return {"double": 2 * number}

    def fail(self) -> dict:
        raise ArithmeticError("the loss is nan")


if __name__ == "__main__":
    serve(Echo)
