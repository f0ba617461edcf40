"""Answers every line with its SHA-256, digested as often as asked for."""

import hashlib

from testbed.services import conversations


def main() -> None:
    """Listen and serve."""
    parser = conversations.arguments("Digest lines.", port=8100)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()

    def work(words: bytes) -> dict[str, str]:
        if not words:
            raise ValueError("there is nothing to digest")  # answered, and not counted
        for _ in range(options.rounds):
            words = hashlib.sha256(words).digest()
        return {"digest": words.hex()}

    conversations.serve(work, options, words="lines")


if __name__ == "__main__":
    main()
