"""What tomskit relies on in python-dotenv that is not documented."""

from tomskit._internals.dotenv import lines_of


def test_the_lines_of_a_file_with_those_that_it_cannot_read() -> None:
    """``dotenv.parser.parse_stream``."""
    text = "# comment\nA=1\n\n\nB='2\n3'\nexport C\nnonsense here\nD=\n"
    assert [(one.number, one.text, one.has_value) for one in lines_of(text)] == [
        (1, "# comment\n", False),
        (2, "A=1\n", True),
        (5, "B='2\n3'\n", True),
        (7, "export C\n", False),
        (8, "nonsense here\n", False),
        (9, "D=\n", True),
    ]
