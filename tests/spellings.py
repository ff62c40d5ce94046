"""In how many ways providers, people and files write one and the same address."""

from __future__ import annotations

#: What is found around an address; braces stand for it.
WRAPPERS = (
    *("{}", "<{}>", "mailto:{}", "MAILTO:{}", "rfc822;{}", "rfc822; {}", "{}.", "{},", "{};", "{}/", "{}:25", "'{}'"),
    *('"{}"', "<@relay.example:{}>", "Ann <{}>", '"Smith, Ann" <{}>', "{} (Ann)", "\ufeff{}", "\u202a{}\u202c"),
)
#: An international domain in its one form, and in others.
DOMAIN = "xn--bcher-kva.example"
DOMAINS = (
    *(DOMAIN, DOMAIN.upper(), f"{DOMAIN}.", "bücher.example", "BÜCHER.EXAMPLE", "ｂücher。ｅｘａｍｐｌｅ"),
    "bu\u0308cher.example.",
)
