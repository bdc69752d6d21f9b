"""Finds card and phone numbers in texts, and leaves the many other numbers alone.

First everything is hidden that holds numbers of another kind: addresses of the web, paths, dates, decimals.
A card number is one that an issuer may give out (ISO/IEC 7812-1), with a right check digit. A phone number is
one of the numbering plans of the phonenumbers library that no word before it calls an order or a price.
"""

import re
from collections.abc import Iterator
from typing import Final

# Scripts that are written without blanks: a word of another script stands alone next to their letters.
UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
# A letter, digit or underscore of any other script: a find must not go on with one.
LETTER: Final = rf"[^\W{UNSPACED}]"
# Stands for what is hidden from a search: no digit, no letter, and nothing that a number may contain.
HIDDEN: Final = "\0"
# Characters before a number in which the word is looked for that says what the number is.
BEFORE: Final = 28

_YEAR, _DAY = r"(?:19|20)\d\d", r"(?:[12]\d|3[01]|0?[1-9])"
_TIME = r"(?:[ T_-]{0,2}[0-2]?\d[:.时時][0-5]\d(?:[:.分][0-5]\d)?(?:[.,]\d{1,6})?)"
_COMPACT = r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_IN_PATH = r"[A-Za-z0-9_.~%-]"
_FIRST_IN_PATH = rf"(?:[A-Za-z]:|\.\.?|(?=[\d.%-]{{0,40}}[A-Za-z_~]){_IN_PATH}{{1,80}})"
_REST = r"[^\s<>\"，。；、（）】》]++"
_KINDS_OF_FILES = (
    r"(?:jpe?g|png|gif|webp|heic|pdf|csv|tsv|jsonl?|xml|html?|txt|log|zip|gz|docx?|xlsx?|mp[34]|mov|apk|exe)"
)
# Every repeat is bounded or possessive, so that no text can make the search slow (catastrophic backtracking).
OTHER_NUMBERS: Final = re.compile(
    "|".join(
        [
            # Addresses of the web, with or without their scheme.
            rf"(?<![A-Za-z0-9])(?:[A-Za-z][A-Za-z0-9+.-]{{0,15}}://|www\.){_REST}",
            rf"(?<![A-Za-z0-9.-])(?:[A-Za-z0-9-]{{1,63}}\.){{1,8}}[A-Za-z]{{2,24}}(?::\d{{1,5}})?[/?]{_REST}",
            # Paths, whose first part has a letter or is empty (but Tel/ is none), and names of files.
            rf"(?<![\w.~%/\\-])(?!(?i:tel|fax|phone|mobile|mob|call)/[\d+(]){_FIRST_IN_PATH}?+(?:[/\\]{_IN_PATH}++)++",
            rf"(?<!{LETTER})\d[\w-]{{0,80}}\.{_KINDS_OF_FILES}(?!{LETTER})",
            # Ids with a form of their own: UUID (RFC 9562), IBAN (ISO 13616), ISBN (ISO 2108), and Chinese
            # identity numbers, with the date of birth inside (GB 11643).
            r"(?<!\w)[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?!\w)",
            rf"(?<!{LETTER})[A-Z]{{2}}\d\d(?: ?[A-Z0-9]{{4}}){{2,7}}(?: ?[A-Z0-9]{{1,3}})?(?!{LETTER})",
            r"(?<![\d-])97[89][ -]\d{1,5}[ -]\d{1,7}[ -]\d{1,7}[ -]\d(?![\d-])",
            rf"(?<!{LETTER})[1-8]\d{{5}}{_COMPACT}\d{{3}}[\dXx](?!{LETTER})",
            # Dates with their times, and spans of years.
            rf"(?<![\d-]){_YEAR}(?:[-./]{_DAY}[-./]{_DAY}|年{_DAY}月{_DAY}日?){_TIME}?(?!\d)",
            rf"(?<![\d-]){_DAY}[-./]{_DAY}[-./]{_YEAR}{_TIME}?(?!\d)",
            rf"(?<!{LETTER}){_COMPACT}(?:[ T_-]?[0-2]\d[0-5]\d(?:[0-5]\d)?)?(?!{LETTER})",
            rf"(?<!\d){_YEAR} ?[-–—/~至] ?{_YEAR}(?!\d)",
            # One decimal point, as in a price or a coordinate: phone numbers have several points or none.
            rf"(?<!{LETTER})(?<!\d[.-])\d{{1,12}}\.\d{{1,12}}(?![ .-]?\d)(?!{LETTER})",
        ]
    )
)
_NOT_BEFORE = rf"(?<!{LETTER})(?<!{LETTER}-)(?<!\d\.)(?<!\+)"
_NOT_AFTER = rf"(?!{LETTER})(?!-{LETTER})(?!\.\d)(?![ \xa0]\d{{4}}(?!\d)(?!(?:[ \xa0]\d{{4}}){{3}}(?!\d)))"
CARD_BEGINS: Final = re.compile(rf"{_NOT_BEFORE}(?=\d{{4}})")
FOUR_BEFORE: Final = re.compile(r"(?<!\d)\d{4}[ \xa0]$")
# Between two groups, the same in all of a number: blanks, a point, or one of the dashes that editors make.
_GAP = r"([ \xa0]{1,2}|[\u2009\u202f.\u2010-\u2015\u2212-])"
# The groups that are printed on cards, by the length of the number, and none.
CARDS: Final = [
    re.compile(digits + _NOT_AFTER)
    for digits in (
        r"\d{13,19}",
        rf"\d{{4}}{_GAP}\d{{4}}\1\d{{4}}\1\d{{4}}\1\d{{3}}",
        rf"\d{{4}}{_GAP}\d{{4}}\1\d{{4}}\1\d{{4}}",
        rf"\d{{4}}{_GAP}\d{{6}}\1\d{{4,5}}",
    )
]
# First digits of the issuers and the lengths of their numbers: American Express; Diners Club; JCB; Visa; Mir;
# Mastercard; Discover; UnionPay, RuPay and Maestro.
ISSUED: Final = re.compile(
    r"3[47]\d{13}|3(?:0[0-5]|095|[689])\d{11,16}|35(?:2[89]|[3-8]\d)\d{12,15}|4(?:\d{12}|\d{15}|\d{18})"
    r"|220[0-4]\d{12,15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|6(?:011|4[4-9]|5)\d{12,17}|(?:5[06-9]|6\d)\d{10,17}"
)
_SEPARATED = r"[\s:：=/／()（）\[\]【】\"'*-]{0,3}"
_OTHER_NAMES = (
    r"(?<![A-Za-z])(?:order|invoice|receipt|booking|reservation|tracking|parcel|shipment|serial|ticket|ref|"
    r"reference|sku|asin|item|product|article|model|customer|contract|patent|transaction|isbn|issn|ean|upc|"
    r"gtin|imei|barcode|id|uid|qq|version|v)|订单|訂單|发票|發票|运单|運單|快递|快遞|物流|流水|交易|合同|"
    r"商品|货|貨|条形?码|條碼|[编惠证请](?=码)|序列|专利|專利|身份证|会员|學號|学|版本|单|單"
)
# A word for another number, right before a number.
OTHER_NAME: Final = re.compile(
    rf"(?:{_OTHER_NAMES})(?:[ .-]?(?:no|nr|num|number|id|code|编?号?码?|編?號?碼?))?[是为為.#]?{_SEPARATED}$",
    re.IGNORECASE,
)
# What makes any number the number of a document, or an amount.
NUMBERED: Final = re.compile(
    rf"(?:第|号|號|字|编号|編號|№|#|(?<![A-Za-z])(?:no|nr)\.?){_SEPARATED}$"
    r"|(?:[$€£¥￥₹]|(?<![A-Za-z])(?:USD|EUR|GBP|CNY|RMB|JPY))\s?$",
    re.IGNORECASE,
)
PHONE_NAME: Final = re.compile(
    r"(?:(?<![A-Za-z])(?:tel|telephone|phone|mobile|mob|cell|call|fax|ring|dial|text|sms|whatsapp|hotline)"
    r"|电话|電話|手机|手機|座机|座機|热线|熱線|传真|傳真|致电|致電|拨打|撥打|客服|微信|联系|聯繫|聯絡)"
    rf"(?:方式)?(?:[ .-]?(?:no|nr|num|number|号码?|號碼?))?[.#]?{_SEPARATED}$",
    re.IGNORECASE,
)
COUNTED: Final = re.compile(
    r"\s?(?:[号號元円块塊万萬亿億克米次股%％°€]|分(?!机)|字节|(?:USD|EUR|GBP|CNY|RMB|JPY|dollars|euros|pounds|bytes|[kKMG]B|"
    r"ms|kg|km)(?![A-Za-z]))"
)
PLUS: Final = re.compile("[+＋]")
_JOINED_BEFORE = re.compile(rf"{LETTER}$|{LETTER}[-./\\]$")
_JOINED_AFTER = re.compile(rf"{LETTER}|[-/@\\]{LETTER}|\.\d")


def find_numbers(text: str, region: str | None) -> list[tuple[int, int, str]]:
    """(begin, end, card or phone) of the card and phone numbers, in order and apart.

    region: whose phone numbers are known without their +code.
    """
    shown = OTHER_NUMBERS.sub(lambda found: HIDDEN * len(found[0]), text)
    finds = [(*span, "card") for span in _cards(shown)]
    parts, last = [], 0
    for begin, end, _ in finds:
        parts += [shown[last:begin], HIDDEN * (end - begin)]
        last = end
    shown = "".join([*parts, shown[last:]])
    return sorted(finds + [(*span, "phone") for span in _phones(shown, text, region)])


def passes_luhn(number: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1, annex B)."""
    digits = [int(c) for c in reversed(number) if c.isdecimal()]
    total = sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])
    return total > 0 and total % 10 == 0


def is_card(number: str) -> bool:
    """Whether an issuer may have given out this number, and its check digit is right.

    Of 13 digits, a number that is a valid EAN-13 (GS1 General Specifications) is one: articles are frequent,
    and cards of this length are no longer issued.
    """
    digits = "".join(str(int(c)) for c in number if c.isdecimal())
    return ISSUED.fullmatch(digits) is not None and passes_luhn(digits) and not _is_ean(digits)


def _is_ean(digits: str) -> bool:
    weighed = (int(c) * (3 if place % 2 else 1) for place, c in enumerate(digits))
    return len(digits) == 13 and sum(weighed) % 10 == 0


def _cards(shown: str) -> Iterator[tuple[int, int]]:
    last = 0
    for begins in CARD_BEGINS.finditer(shown):
        begin = begins.start()
        end = _card_end(shown, begin) if begin >= last else None
        if end is None:
            continue
        before = shown[max(0, begin - BEFORE) : begin]
        # A group of four before it makes a number longer than cards are, unless that is a card itself.
        is_inside = begin != last + 1 and FOUR_BEFORE.search(before)
        if not is_inside and not OTHER_NAME.search(before):
            last = end
            yield begin, end


def _card_end(shown: str, begin: int) -> int | None:
    """Where a card number ends that begins there; None without one."""
    for form in CARDS:
        found = form.match(shown, begin)
        if found is not None and is_card(found[0]):
            return found.end()
    return None


def _phones(shown: str, text: str, region: str | None) -> Iterator[tuple[int, int]]:
    import phonenumbers

    # Without a region it knows numbers with their +code alone, and tries every other one nevertheless, at
    # milliseconds a review that names an order.
    if region is None and not PLUS.search(shown):
        return
    # By default it gives up after 65,535 numbers that are no phone's, and what follows would stay.
    for match in phonenumbers.PhoneNumberMatcher(shown, region, max_tries=len(shown)):
        before = text[max(0, match.start - BEFORE) : match.start]
        after = text[match.end : match.end + 12]
        if _is_alone(match.raw_string, before, after):
            yield match.start, match.end


def _is_alone(number: str, before: str, after: str) -> bool:
    """Whether a number is no part of something longer, and no word next to it says that it is no phone's."""
    if _JOINED_AFTER.match(after):
        return False
    if number.lstrip("(（[").startswith(("+", "＋")):
        return not before[-1:].isdecimal()
    if PHONE_NAME.search(before):
        return True
    others = (_JOINED_BEFORE, OTHER_NAME, NUMBERED)
    return not any(other.search(before) for other in others) and not COUNTED.match(after)
