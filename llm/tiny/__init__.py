"""The embedded model: a small decoder on arithmetic, with several ways to answer.

``corpus`` generates problems and answers, ``tokenizer`` builds the tokenizer, ``pretrain`` makes the artefact.
"""
