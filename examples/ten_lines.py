"""What `agentlab demo` does, in ten lines: play and remember, distil, let held-out games decide, measure."""

from agentlab import Lab, LabConfig, RoundConfig

GAMES = ("twx/coin", "twx/mapreader", "twx/peckingorder")


def main(
    folder: str = "labs/ten-lines",
    games: tuple[str, ...] = GAMES,
    seeds: int = 40,
    test_seeds: int = 20,
    config: LabConfig | None = None,
) -> None:
    with Lab.open(folder, create=True, config=config) as lab:
        lab.run(games, seeds=range(5), trials=3, arm="base + memory")
        done = [report for report in lab.rounds() if report.phase == "done"]
        report = done[0] if done else lab.round(RoundConfig(envs=list(games), seeds=seeds))
        arms = ["random", "base", "base + memory", *["adapter", "adapter + memory"] * bool(report.promoted)]
        table = lab.evaluate(games, seeds=range(test_seeds), arms=arms)
        print(f"{report.adapter} was {'promoted' if report.promoted else 'rejected'}: {report.gate['reason']}")
        for row in table.rows:
            print(f"{row.arm:18}", *(f"{game} {cell}" for game, cell in row.cells.items()), sep="  ")


if __name__ == "__main__":
    main()
