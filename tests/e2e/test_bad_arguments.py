"""Bad arguments end in one clear sentence and a non-zero exit, before anything is written."""

import pytest

from jobs import backfill_profiles, embed_texts, import_dataset, run_night

GOOD = ["--warehouse", "{tmp}/w", "--logs", "{tmp}", "--date", "2025-03-03"]


@pytest.mark.parametrize(
    ("job", "argv", "sentence"),
    [
        (
            run_night,
            ["--warehouse", "{tmp}/w", "--logs", "{tmp}/nowhere", "--date", "2025-03-03"],
            "no such folder",
        ),
        (
            run_night,
            ["--warehouse", "{tmp}/w", "--logs", "{tmp}", "--date", "2025-02-30"],
            "'2025-02-30' is no date",
        ),
        (run_night, [*GOOD, "--date", "2025-W14-2"], "'2025-W14-2' is no date"),
        (run_night, [*GOOD, "--date", "20250401"], "is no date"),
        (run_night, [*GOOD, "--date", "0001-01-03"], "the years are 1900 to 2200"),
        (run_night, [*GOOD, "--date", "9999-12-31"], "the years are 1900 to 2200"),
        (run_night, [*GOOD, "--config", "{tmp}/bad.yaml"], "unknown key 'engine.knd'"),
        (run_night, [*GOOD, "--config", "{tmp}/missing.yaml"], "no such file"),
        (run_night, [*GOOD, "--mapping", "{tmp}/mapping.yaml"], "is not valid YAML"),
        (run_night, [*GOOD, "--mapping", "nosuch"], "shipped mappings are"),
        (
            run_night,
            ["--warehouse", "{tmp}/bad.yaml", "--logs", "{tmp}", "--date", "2025-03-03"],
            "is a file",
        ),
        (
            backfill_profiles,
            ["--warehouse", "{tmp}/w", "--logs", "{tmp}", "--start", "2025-03-04", "--end", "2025-03-03"],
            "is after --end",
        ),
        (
            embed_texts,
            ["--warehouse", "{tmp}/w", "--start", "2025-03-04"],
            "give --date, or --start and --end",
        ),
        (
            import_dataset,
            ["--mapping", "movielens", "--source", "{tmp}/nowhere", "--logs", "{tmp}/w"],
            "no such folder",
        ),
    ],
)
def test_one_sentence_and_a_non_zero_exit(job, argv, sentence, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("engine: {knd: hash}", encoding="utf-8")
    (tmp_path / "mapping.yaml").write_text("source: [", encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        job.main([word.replace("{tmp}", str(tmp_path)) for word in argv])
    printed = capsys.readouterr().err
    assert stop.value.code == 2
    assert sentence in printed and printed.count("\n") == 1
    assert not (tmp_path / "w").exists()
