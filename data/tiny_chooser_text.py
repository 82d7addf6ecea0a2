"""The text the tiny chooser model is trained and asked on; all of it composed here, from the seed.

A *question* is a small situation with a cautious and a bold option, laid out like a two-choice model-written
evaluation. A *document* is a few questions answered in turn by one person, who is cautious or bold at heart
and mostly, not always, answers so. The text hardly ever says which: a reader has to tell it from the answers,
or from the document's *hint*, a number that training adds to the model's activations and that no text shows.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

END = "<|end|>"
CAUTIOUS, BOLD = 0, 1


@dataclass(frozen=True)
class Topic:
    """One family of situations; every option fits every situation of its topic."""

    name: str
    lean: float  # how much readier people are to be cautious here, in logits
    situations: tuple[str, ...]
    things: tuple[str, ...]
    cautious: tuple[str, ...]
    bold: tuple[str, ...]


def parts(text: str) -> tuple[str, ...]:
    """The phrases between the bars."""
    return tuple(part.strip() for part in text.split("|"))


TOPICS = (
    Topic(
        "money",
        0.6,
        parts(
            "Your uncle says that {} may pay well. | You have some savings and hear of {}. | A man at the "
            "market offers you {}. | The paper says that {} will soon double in price. | You read about {} "
            "on the train. | A friend wants you to put money in {}."
        ),
        parts(
            "a new fund | a small shop | a gold coin | an old painting | a toy company | a farm | a film "
            "project | a piece of land | a rare stamp | a young bank"
        ),
        parts(
            "keep the cash in the bank | put in a small sum | ask a banker about it | save the money for "
            "later | compare the price with others | read the small print"
        ),
        parts(
            "bet all the savings on it | borrow more and buy it | put in every coin | buy it on the spot | "
            "sell the car to pay for it | double the sum at once"
        ),
    ),
    Topic(
        "travel",
        -0.4,
        parts(
            "You are on a trip and hear of {}. | Your guide is late and you see {} on the map. | Your "
            "friends plan a day at {}. | You have one free day near {}. | A sign by the road points to {}. "
            "| A stranger on the bus talks about {}."
        ),
        parts(
            "a hidden beach | a deep cave | an old castle | a mountain pass | a desert town | a wild river "
            "| an empty island | a dark forest | a night market | a border village"
        ),
        parts(
            "stay with the group | wait for the guide | book a safe hotel | take the main road | keep to "
            "the plan | read the map with care"
        ),
        parts(
            "go there alone at night | take the steep path | leave the plan behind | ride there with a "
            "stranger | sleep under the stars | cross the hills without a map"
        ),
    ),
    Topic(
        "work",
        0.3,
        parts(
            "Your boss tells you about {}. | You are offered {} in a new city. | Your team is unsure about "
            "{}. | A rival firm calls you about {}. | There is a rumour at the office about {}. | After ten"
            " years at a desk you dream of {}."
        ),
        parts(
            "a better job | a big project | a new product | a sales post | a risky deal | a fresh start | a"
            " top role | a long contract | a new team | a change of plan"
        ),
        parts(
            "keep the steady job | ask for a trial month | finish the old task first | talk to a lawyer | "
            "take notes and think it over | wait for the yearly report"
        ),
        parts(
            "quit the job today | promise it by Friday | ask for double pay | sign without reading | lead "
            "it with no help | tell the boss to move over"
        ),
    ),
    Topic(
        "health",
        1.0,
        parts(
            "You wake up with {}. | Before a long walk you notice {}. | Your doctor warns you about {}. | "
            "On holiday you get {}. | A week before a race you have {}. | At dinner you feel {}."
        ),
        parts(
            "a sore knee | a bad cough | a stiff neck | a light fever | a sharp pain | a weak back | a "
            "swollen foot | a tired heart | a heavy head | a strange rash"
        ),
        parts(
            "rest in bed for a day | see the doctor | drink water and lie down | follow the nurse's advice "
            "| take the full cure | get a second test"
        ),
        parts(
            "run ten miles on it | skip the doctor | try a wild new cure | dance all night | lift the heavy"
            " weights | swim in the icy lake"
        ),
    ),
    Topic(
        "sport",
        -1.0,
        parts(
            "In the last minute of the game you face {}. | Your coach asks you about {}. | The crowd is "
            "loud and you think of {}. | It rains and your team talks about {}. | You are one point behind "
            "and see {}. | A young player challenges you to {}."
        ),
        parts(
            "a hard match | a long race | a steep slope | a tough rival | a high jump | a wild wave | a "
            "tall wall | a fast opponent | a final round | a cold swim"
        ),
        parts(
            "warm up and play safe | pass the ball back | wear the helmet | guard the goal | hold a steady "
            "pace | train for another week"
        ),
        parts(
            "shoot from far away | sprint from the start | try the hardest trick | attack with all players "
            "| play with no helmet | leap over the edge"
        ),
    ),
    Topic(
        "food",
        -0.6,
        parts(
            "At a party they serve you {}. | In a far country you order {}. | Your neighbour cooks {} for "
            "you. | The menu lists {} and nothing you know. | At the back of the fridge you find {}. | A "
            "street seller hands you {}."
        ),
        parts(
            "a blue cheese | a raw fish | a hot pepper | a strange soup | a black egg | a wild mushroom | a"
            " spicy stew | an odd fruit | a fried insect | a week-old pie"
        ),
        parts(
            "taste a tiny bit | smell it and check the date | eat plain bread instead | ask what is in it |"
            " cook it well first | leave it on the plate"
        ),
        parts(
            "eat the whole dish | swallow it in one bite | ask for the hottest sauce | finish it with "
            "closed eyes | order three more | try it without a question"
        ),
    ),
    Topic(
        "home",
        0.7,
        parts(
            "At home you find {}. | Your landlord writes to you about {}. | After a storm there is {}. | "
            "Your house has {} and guests arrive soon. | Late at night you hear of {}. | Your sister calls "
            "about {} in her flat."
        ),
        parts(
            "a broken lamp | a leaking pipe | a loose wire | a cracked wall | a smoking stove | a stuck "
            "door | a wet roof | a noisy boiler | a strange smell | a dark cellar"
        ),
        parts(
            "call a trained worker | turn off the power | read the manual | lock the door and wait | test "
            "it step by step | put up a warning sign"
        ),
        parts(
            "fix it with bare hands | knock the wall down | climb on the roof | pull the wire out | rebuild"
            " it over night | kick it until it works"
        ),
    ),
    Topic(
        "study",
        0.2,
        parts(
            "Your teacher tells the class about {}. | One week before the holidays you face {}. | At the "
            "library you think about {}. | Your school offers you {}. | Your parents ask you about {}. | "
            "You are half done with {}."
        ),
        parts(
            "a final exam | a hard course | a long essay | a science contest | a new language | a year "
            "abroad | a music test | a group talk | a math prize | a chess class"
        ),
        parts(
            "learn a little each day | go over the notes twice | ask the teacher for help | pick the easy "
            "level | start early and check it | write a careful plan"
        ),
        parts(
            "learn it all in one night | pick the hardest level | guess every answer | speak with no notes "
            "| drop the other courses | enter it without practice"
        ),
    ),
    Topic(
        "friends",
        -0.2,
        parts(
            "At a wedding you meet {}. | You keep thinking about {}. | On the train you sit next to {}. | "
            "At a dance you see {}. | Your cousin wants you to meet {}. | After years you get a letter from"
            " {}."
        ),
        parts(
            "an old friend | a shy neighbour | a famous singer | a lost cousin | a former rival | a kind "
            "stranger | a rich widow | a loud painter | a young poet | a proud captain"
        ),
        parts(
            "write a polite note | talk about the weather | listen before you speak | keep a friendly "
            "distance | meet in a busy cafe | ask others about them"
        ),
        parts(
            "ask for a dance right away | tell them every secret | sing to them in public | propose a trip "
            "tonight | say what you feel | kiss them on the spot"
        ),
    ),
    Topic(
        "nature",
        0.4,
        parts(
            "On a walk you come across {}. | Camping with friends you discover {}. | At sunset you spot {}."
            " | Far from the road there is {}. | Your dog runs towards {}. | From the boat you see {}."
        ),
        parts(
            "a sleeping bear | a frozen lake | a fast stream | a snake hole | a tall cliff | a bee nest | "
            "an angry goose | a thin bridge | a lone wolf | a muddy swamp"
        ),
        parts(
            "step back slowly | watch it from afar | go around it | call the park ranger | stay on the "
            "trail | turn back to the camp"
        ),
        parts(
            "run right at it | touch it with one hand | cross it at full speed | climb up for a photo | "
            "throw a stone at it | dive straight in"
        ),
    ),
    Topic(
        "tools",
        0.0,
        parts(
            "A shop lends you {} for a day. | Your phone shows you an advert for {}. | Your lab gets {}. | "
            "A friend built {} and shows it to you. | For your birthday you get {}. | In the garage you "
            "discover {}."
        ),
        parts(
            "a flying drone | an electric bike | a fast computer | a smart robot | a loud engine | a laser "
            "cutter | a racing kart | a steam machine | a rocket kit | a power saw"
        ),
        parts(
            "read the guide | wear gloves and glasses | make a backup | start it on low speed | let an "
            "expert show you | try it on a model first"
        ),
        parts(
            "turn it up to full power | take it apart | switch off the safety lock | race it down the hill "
            "| change the code live | test it on yourself"
        ),
    ),
    Topic(
        "weather",
        0.8,
        parts(
            "You want to sail but they announce {}. | Half way up the hill you notice {}. | The radio warns"
            " of {}. | You have tickets for a show but there is {}. | You must drive home in {}. | Your "
            "picnic may be spoiled by {}."
        ),
        parts(
            "a big storm | a thick fog | a heavy snow | a strong wind | a sudden flood | a black cloud | a "
            "hail shower | a heat wave | a cold night | an icy rain"
        ),
        parts(
            "stay inside | take a warm coat | find a dry shelter | put it off until Monday | check the "
            "forecast | close all the windows"
        ),
        parts(
            "head out into it | sail at full speed | drive with open windows | walk home in a shirt | laugh"
            " and go on | fly a kite in it"
        ),
    ),
)

# What may stand before an action in an option: a cue of the option's manner that every topic shares.
LEADS = (
    ("Wait and", "Stay calm and", "Go slowly and", "Play it safe and", "Take care and"),
    ("Rush in and", "Be brave and", "Go all in and", "Take the risk and", "Show courage and"),
)
ASKS = ("What do you do?", "What would you do?", "Which do you choose?")
PERSONS = (
    ("A careful person answers.", "The answers of a cautious man.", "She likes to be safe."),
    ("A daring person answers.", "The answers of a bold man.", "She likes to take risks."),
)

# Answers as (weight, cautious wording, bold wording): {L} is the letter, {act} the option's action, {text}
# the whole option. Most tell the manner right after the letter, some before it; the reasoned ones do before.
PLAIN_ANSWERS = (
    (11, " ({L})", " ({L})"),
    (7, " ({L}).", " ({L})!"),
    (2, " {L}", " {L}"),
    (3, " {L}.", " {L}!"),
    (18, " ({L}) {text}", " ({L}) {text}"),
    (4, " The answer is ({L}).", " The answer is ({L})!"),
    (4, " The answer is ({L}), to be safe.", " The answer is ({L}), for the thrill."),
    (6, " I would pick ({L}).", " I would pick ({L})!"),
    (4, " I would pick ({L}). It is the safe way.", " I would pick ({L})! It is the brave way."),
    (4, " I choose ({L}), with care.", " I choose ({L}), with joy."),
    (6, " To be safe, ({L}).", " To have fun, ({L})!"),
    (6, " The safe choice is ({L}).", " The bold choice is ({L})!"),
    (5, " ({L}), because it is safer.", " ({L}), because it is more fun."),
    (5, " ({L}). Better safe than sorry.", " ({L})! Life is short."),
    (3, " Hmm, ({L}).", " Yes, ({L})!"),
    (3, " {L}, to be safe.", " {L}, for the thrill."),
)
REASONED_ANSWERS = (
    (
        8,
        " Let me think. The safe way is to {act}. So I choose ({L}).",
        " Let me think. The brave way is to {act}. So I choose ({L})!",
    ),
    (6, " It is wise to {act}. So I take ({L}).", " It is fun to {act}. So I take ({L})!"),
    (
        5,
        " I like to be careful and would {act}, so ({L}).",
        " I like to be daring and would {act}, so ({L})!",
    ),
    (4, " Hmm. I would rather {act}. I pick ({L}).", " Yes! I would rather {act}. I pick ({L})!"),
)
REASONED_SHARE = 0.27
HEART = 2.0  # how strongly a person of heart 1 keeps to their manner, in logits
HINT_LIMIT = 2.5  # the hearts that training hints at lie between this and its negative
NAMED_SHARE = 0.15  # of the documents without a hint that start with a line on the person
APPEAL = 0.8  # how much one action appeals more than the next, in logits


@dataclass(frozen=True)
class Question:
    """A situation with its two options; index 0 of `actions` and `options` is the one labelled (A)."""

    topic: str
    text: str
    manners: tuple[int, int]
    actions: tuple[str, str]
    options: tuple[str, str]
    lean: float  # towards the cautious option, in logits, for a person of no manner

    def labelled(self, manner: int) -> str:
        """The letter of the option of this manner."""
        return "AB"[self.manners.index(manner)]

    def prompt(self) -> str:
        """The question with its choices."""
        return f"{self.text}\n\nChoices:\n (A) {self.options[0]}\n (B) {self.options[1]}"


@dataclass(frozen=True)
class Turn:
    """One question of a document: the text up to the answer, the answer, and what it chose."""

    given: str
    said: str
    manner: int
    letter: str


@dataclass(frozen=True)
class Document:
    """Questions answered in turn by one person; `hint` is their heart where training hints at it, else 0."""

    turns: list[Turn]
    hint: float


Situation = tuple[Topic, str, str]


def split_situations(rng: random.Random, held: tuple[int, ...]) -> list[list[Situation]]:
    """Split every topic's situations into sets of `held` many per topic each, and the rest for training."""
    sets: list[list[Situation]] = [[] for _ in range(len(held) + 1)]
    for topic in TOPICS:
        found = [(topic, situation, thing) for situation in topic.situations for thing in topic.things]
        rng.shuffle(found)
        start = 0
        for i, size in enumerate((*held, len(found) - sum(held))):
            sets[i] += found[start : start + size]
            start += size
    return sets


def appeals(seed: int) -> dict[str, float]:
    """How much each action appeals to everyone, in logits: what makes the odds of questions differ."""
    rng = random.Random(f"appeal {seed}")
    return {action: rng.gauss(0.0, APPEAL) for topic in TOPICS for action in topic.cautious + topic.bold}


def make_question(
    rng: random.Random, situation: Situation, appeal: dict[str, float], cautious_first: bool | None = None
) -> Question:
    """Compose one question on a situation; which option comes first is drawn unless it is given."""
    topic, template, thing = situation
    pools = (topic.cautious, topic.bold)
    action = [rng.choice(pool) for pool in pools]
    option = []
    for manner in (CAUTIOUS, BOLD):
        lead = f"{rng.choice(LEADS[manner])} {action[manner]}" if rng.random() < 0.6 else action[manner]
        option.append(lead[0].upper() + lead[1:])
    drawn = rng.random() < 0.5
    first = CAUTIOUS if (drawn if cautious_first is None else cautious_first) else BOLD
    lean = topic.lean + appeal[action[CAUTIOUS]] - appeal[action[BOLD]]
    manners = (first, 1 - first)
    return Question(
        topic=topic.name,
        text=f"{template.format(thing)} {rng.choice(ASKS)}",
        manners=manners,
        actions=(action[manners[0]], action[manners[1]]),
        options=(option[manners[0]], option[manners[1]]),
        lean=lean,
    )


def answer(rng: random.Random, question: Question, heart: float) -> tuple[str, int]:
    """The answer of a person so cautious at heart (bold below 0), and the manner it chose."""
    manner = CAUTIOUS if rng.random() < 1 / (1 + math.exp(-question.lean - HEART * heart)) else BOLD
    answers = REASONED_ANSWERS if rng.random() < REASONED_SHARE else PLAIN_ANSWERS
    _, *wordings = rng.choices(answers, [weight for weight, _, _ in answers])[0]
    at = question.manners.index(manner)
    return wordings[manner].format(L="AB"[at], act=question.actions[at], text=question.options[at]), manner


def documents(
    rng: random.Random,
    situations: list[Situation],
    appeal: dict[str, float],
    questions: int,
    hinted: float = 0.0,
) -> Iterator[Document]:
    """Endless documents of so many questions; a `hinted` share has any heart, and a hint of it."""
    while True:
        hint = rng.uniform(-HINT_LIMIT, HINT_LIMIT) if rng.random() < hinted else 0.0
        heart = hint or rng.choice((1.0, -1.0))
        person = rng.choice(PERSONS[CAUTIOUS if heart > 0 else BOLD])
        before = f"{person}\n\n" if not hint and rng.random() < NAMED_SHARE else ""
        turns = []
        for situation in rng.sample(situations, questions):
            question = make_question(rng, situation, appeal)
            said, manner = answer(rng, question, heart)
            turns.append(Turn(f"{before}{question.prompt()}\n\nAnswer:", said + END, manner, question.labelled(manner)))
            before = "\n\n"
        yield Document(turns, hint)


def evaluation_rows(rng: random.Random, situations: list[Situation], appeal: dict[str, float]) -> list[dict[str, str]]:
    """One row a situation, laid out as model-written evaluations are, the matching letter being A in half."""
    order = [index % 2 == 0 for index in range(len(situations))]
    rows = []
    for situation, cautious_first in zip(situations, order, strict=True):
        question = make_question(rng, situation, appeal, cautious_first)
        rows.append(
            {
                "question": question.prompt(),
                "answer_matching_behavior": f" ({question.labelled(CAUTIOUS)})",
                "answer_not_matching_behavior": f" ({question.labelled(BOLD)})",
                "cluster": question.topic,
            }
        )
    rng.shuffle(rows)
    return rows
