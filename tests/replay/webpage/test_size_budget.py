"""What is left out so that a page fits."""

from replay.webpage.size_budget import PageItem, plan_page


def plane(side: int) -> PageItem:
    return PageItem(side, lambda pool: 12 * (-(-side // pool)) ** 2)


def test_nothing_is_done_where_all_of_it_fits() -> None:
    plan = plan_page([plane(64), plane(16)], 100, 1e9)
    assert (plan.frames, plan.pools) == (100, (1, 1))


def test_frames_go_before_pixels_as_long_as_sixty_remain() -> None:
    each = plane(64).cost(1)
    assert plan_page([plane(64)], 300, 61.5 * each) == plan_page([plane(64)], 61, 61.5 * each)
    assert plan_page([plane(64)], 300, 61.5 * each).frames == 61


def test_the_largest_planes_are_pooled_first() -> None:
    sources = [plane(224), plane(56), plane(112)]
    budget = 80 * sum(source.cost(1) for source in sources) / 4
    plan = plan_page(sources, 300, budget)
    assert plan.pools[1] == 1
    assert plan.pools[0] > plan.pools[2]
    assert plan.frames >= 60


def test_a_budget_is_never_exceeded_and_less_never_brings_more() -> None:
    sources = [plane(128), plane(32)]
    before = 10**9
    for budget in (3e7, 1e7, 3e6, 1e6, 3e5, 1e5, 1e4, 1e3, 100, 0, -5):
        plan = plan_page(sources, 500, budget)
        used = plan.frames * sum(s.cost(p) for s, p in zip(sources, plan.pools, strict=True))
        assert used <= max(budget, 0)
        held = used
        assert held <= before
        before = max(budget, 0)
    assert plan_page(sources, 500, 10).frames == 0
