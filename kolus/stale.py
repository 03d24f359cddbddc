class Forked:
    def __init__(self, m):
        pass


class Traced:
    pass
