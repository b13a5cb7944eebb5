"""Several processes answer a list in order; this one is among them, and waits only when nothing is left."""

import os
import time
from itertools import islice

import pytest

from light_sernet_kd.device import answers, in_parallel


class Slow:
    """Says which process answered, after so many seconds as it is asked for."""

    def __init__(self, told: str) -> None:
        self.told = told

    def __call__(self, question: tuple[int, float]) -> dict[str, int]:
        number, seconds = question
        time.sleep(seconds)
        if number % 5 == 0:
            answers.tell(f"{self.told} {number}")
        return {"number": number, "process": os.getpid()}


def asked(questions, jobs):
    return in_parallel.each(Slow("of"), Slow, "of", questions, jobs=jobs)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_answers_and_what_is_told_come_in_order(jobs, capsys):
    found = [*asked(((number, 0.005 * (number % 3)) for number in range(60)), jobs)]
    assert [question[0] for question, _ in found] == [answer["number"] for _, answer in found] == [*range(60)]
    told = capsys.readouterr().err.splitlines()
    assert told == [f"light-sernet-kd: of {number}" for number in range(0, 60, 5)]
    processes = {answer["process"] for _, answer in found}
    assert os.getpid() in processes
    assert len(processes) <= jobs


def test_both_processes_answer_the_most_of_a_long_list():
    found = [answer["process"] for _, answer in asked(((number, 0.02) for number in range(120)), 2)]
    # The other one starts late.
    assert 30 <= found.count(os.getpid()) <= 110


def test_what_another_process_has_not_begun_is_taken_back():
    # Longer than the start of a process: seven wait behind the first.
    found = [answer["process"] for _, answer in asked(((number, 0.5) for number in range(8)), 2)]
    assert found.count(os.getpid()) >= 2


def test_a_list_without_an_end_is_read_no_further_than_it_must():
    read = []

    def endless():
        number = 0
        while True:
            read.append(number)
            yield number, 0.0
            number += 1

    answered = asked(endless(), 2)
    assert [answer["number"] for _, answer in islice(answered, 20)] == [*range(20)]
    answered.close()
    assert len(read) <= 20 + 2 * in_parallel._AHEAD * 2 + 2
