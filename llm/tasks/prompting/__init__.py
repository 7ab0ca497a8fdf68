"""From turns of a conversation to token ids, in which what is not trusted is never markup."""
