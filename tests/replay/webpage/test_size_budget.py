"""What is left out so that a page fits."""

from replay.webpage.size_budget import Fidelity, PageItem, PagePlan, plan_page


def plane(side: int, tolerance: float = 1.0, source: int = 0, most: float = 99.0) -> PageItem:
    """Costs less the coarser its steps are."""

    def cost(fidelity: Fidelity) -> float:
        return 12 * (-(-side // fidelity.pool)) ** 2 / (1 + 0.2 * (fidelity.step - 1))

    return PageItem(side, cost, tolerance, source, most)


def total(items: list[PageItem], plan: PagePlan) -> float:
    return sum(
        item.cost(each) * plan.frames[item.source]
        for item, each in zip(items, plan.fidelity, strict=True)
    )


def test_nothing_is_done_where_all_of_it_fits() -> None:
    plan = plan_page([plane(64), plane(16)], [100], 1e9)
    assert (plan.frames, plan.fidelity) == ((100,), (Fidelity(), Fidelity()))


def test_detail_goes_before_frames_and_more_where_maps_are_large() -> None:
    items = [plane(128, 2.0), plane(16, 0.7), plane(64, 2.0, most=2.0)]
    plan = plan_page(items, [300], 0.45 * 300 * sum(item.cost(Fidelity()) for item in items))
    assert plan.frames == (300,)
    assert [each.pool for each in plan.fidelity] == [1, 1, 1]
    large, small, kept = (each.step for each in plan.fidelity)
    assert large > small >= 1
    assert kept <= 2


def test_frames_go_before_pixels_as_long_as_sixty_remain() -> None:
    item = plane(64)
    each = item.cost(Fidelity(1, 14.0))
    plan = plan_page([item], [300], 61.5 * each)
    assert (plan.frames, plan.fidelity) == ((61,), (Fidelity(1, 14.0),))


def test_the_largest_planes_are_pooled_first() -> None:
    items = [plane(224), plane(56), plane(112)]
    budget = 80 * sum(item.cost(Fidelity(1, 14.0)) for item in items) / 4
    plan = plan_page(items, [300], budget)
    pools = [each.pool for each in plan.fidelity]
    assert pools[1] == 1
    assert pools[0] > pools[2]
    assert plan.frames[0] >= 60


def test_each_kind_of_image_has_frames_of_its_own() -> None:
    items = [plane(64), plane(64, source=1)]
    each = items[0].cost(Fidelity(1, 14.0))
    plan = plan_page(items, [300, 40], 240.5 * each)
    assert plan.frames == (200, 40)  # the few are kept, the many thinned
    # What a page opens with has the larger part.
    assert plan_page(items, [300, 300], 201.5 * each).frames == (134, 67)
    assert plan_page(items, [300, 300], 201.5 * each, 1).frames == (67, 134)


def test_a_budget_is_never_exceeded() -> None:
    items = [plane(128), plane(32)]
    for budget in (3e7, 1e7, 3e6, 1e6, 3e5, 1e5, 1e4, 1e3, 100, 0, -5):
        assert total(items, plan_page(items, [500], budget)) <= max(budget, 0)
    assert plan_page(items, [500], 10).frames == (0,)
