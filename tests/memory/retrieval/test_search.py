"""What is known to be there is found: by its words, in any script, however little its vector says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from random import Random
from zlib import crc32

import numpy as np
import pytest

from memory import Reflection, ReflectionMemory

Maker = Callable[..., Reflection]
NOON = "2025-06-01T12:00:00.000000+00:00"


def ids(hits: Sequence[object]) -> list[str]:
    return [hit.reflection.id for hit in hits]  # type: ignore[attr-defined]


class Blind:
    """An embedder that knows nothing: a direction by chance for each text."""

    model_id = "blind"
    dimensions = 16

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.stack([np.random.default_rng(crc32(text.encode())).standard_normal(16) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_note_is_found_by_most_of_its_words_among_thousands(
    open_memory: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    chance = Random(0)
    # Few words, as notes on games have: each stands in a third of all texts.
    texts = [chance.choices([f"word{number}" for number in range(60)], k=20) for _ in range(3000)]
    memory = open_memory(Blind())
    memory.remember([reflection(str(place), " ".join(text), created_at=NOON) for place, text in enumerate(texts)])
    missed = []
    for place in chance.sample(range(len(texts)), 40):
        different = list(dict.fromkeys(texts[place]))
        query = " ".join(chance.sample(different, math.ceil(0.6 * len(different))))
        if str(place) not in ids(memory.search(query, k=32)):
            missed.append(place)
    assert missed == []


def test_what_words_put_first_is_not_lost_among_what_meaning_and_words_put_further_down(
    open_memory: Callable[..., ReflectionMemory], reflection: Maker
) -> None:
    chance = Random(0)
    words = [f"word{number}" for number in range(120)]
    texts = [" ".join(chance.choices(words, k=16)) for _ in range(1000)]
    memory = open_memory(Blind())
    memory.remember([reflection(str(place), text, created_at=NOON) for place, text in enumerate(texts)])
    asked = {place: " ".join(chance.sample(texts[place].split(), 10)) for place in chance.sample(range(len(texts)), 40)}
    for find, k in product((memory.search, partial(memory.recall, episode="ep-1", record=False)), (10, 32)):
        missed = [place for place, query in asked.items() if str(place) not in ids(find(query, k=k))]
        assert missed == []


ROOMS = (("厨房", "花园", "卧室"), ("台所", "庭", "寝室"), ("부엌", "정원", "침실"), ("ห้องครัว", "สวน", "ห้องนอน"))
NOTES = ("先去{room}把{thing}拿走，再打开北边的门。", "まず{room}で{thing}を取り、それから北の扉を開ける。",
         "먼저 {room}에서 {thing}를 가져온 다음 북쪽 문을 연다.", "ไปที่{room}แล้วหยิบ{thing}ก่อนเปิดประตูทิศเหนือ")  # fmt: skip
THINGS = tuple(
    line.split()
    for line in (
        "钥匙 水壶 地图 蜡烛 绳子 灯笼 镜子 书架 木箱 窗帘 花瓶 斧头 铲子 锤子 梯子 雨伞 手套 帽子 毯子 枕头 闹钟",
        "鍵 やかん 地図 ろうそく ロープ ランタン 鏡 本棚 カーテン 斧 "
        "シャベル 金槌 傘 手袋 毛布 枕 鋏 箒 バケツ 皿 マッチ",
        "열쇠 주전자 지도 양초 밧줄 등불 거울 책장 상자 커튼 꽃병 도끼 망치 우산 장갑 모자 담요 베개 시계 가위 빗자루",
        "กุญแจ แผนที่ เทียน เชือก ตะเกียง กระจก กล่อง ม่าน แจกัน ขวาน พลั่ว ค้อน บันได ร่ม ถุงมือ หมวก ผ้าห่ม หมอน นาฬิกา กรรไกร ถ้วย",
    )
)


@pytest.mark.parametrize("script", range(4), ids=("Chinese", "Japanese", "Korean", "Thai"))
def test_a_note_in_a_script_that_does_not_part_its_words_is_found_by_the_only_word_that_is_its_own(
    script: int, memory: ReflectionMemory, reflection: Maker
) -> None:
    things = THINGS[script]
    memory.remember(
        [
            reflection(thing, NOTES[script].format(room=ROOMS[script][place % 3], thing=thing))
            for place, thing in enumerate(things)
        ]
    )
    assert [memory.search(thing, k=1)[0].reflection.id for thing in things] == things
