"""What gives states their meaning, resolved once from the settings."""

from dataclasses import dataclass

from jobs.io.model import model_key_of
from schemas.settings import Settings


@dataclass(frozen=True)
class FoldMeaning:
    """The model whose vectors are folded, and hashes of all that changes a state, by facet and in total."""

    model_key: str
    facet_hashes: dict[str, str]
    fold_hash: str

    @classmethod
    def of(cls, settings: Settings) -> "FoldMeaning":
        """Raises JobError where the configured model can't be found."""
        model_key = model_key_of(settings.engine)
        return cls(model_key, settings.facet_hashes(model_key), settings.fold_hash(model_key))
