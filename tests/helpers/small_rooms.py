"""Rooms that are simulated in milliseconds and do reverberate."""

from s4m_sb.mixing.rooms import Room, room_responses

SIZE_M = (4.0, 3.0, 2.5)


class SmallRooms:
    """Like ``rooms.FreshRooms``: small rooms with an RT60 of 0.15 to 0.2 s."""

    def __init__(self, num_sources, sample_rate):
        self.num_sources = num_sources
        self.sample_rate = sample_rate

    def draw(self, rng):
        """A room and its responses, decided by the generator."""
        points = [
            tuple(round(float(x), 4) for x in rng.uniform(0.3, 0.9) * corner)
            for corner in rng.uniform(0.5, 1, (self.num_sources + 1, 3))
            * SIZE_M
        ]
        rt60_s = round(float(rng.uniform(0.15, 0.2)), 4)
        room = Room(SIZE_M, points[0], tuple(points[1:]), rt60_s)
        return room, room_responses(room, self.sample_rate)
