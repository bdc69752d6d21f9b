"""What gives states their meaning, resolved once from the settings."""

from dataclasses import dataclass

from jobs.io.model import model_key_of
from schemas.settings import Settings
from udfs.fold.contract import FoldConstants


@dataclass(frozen=True)
class FoldMeaning:
    """The model whose vectors are folded, and hashes of all that changes a state, by facet and in total.

    constants: the gates of the facets.
    """

    model_key: str
    facet_hashes: dict[str, str]
    fold_hash: str
    constants: dict[str, FoldConstants]

    @classmethod
    def of(cls, settings: Settings) -> "FoldMeaning":
        """Raises JobError where the configured model can't be found."""
        model_key = model_key_of(settings.engine)
        constants = {
            facet: FoldConstants(
                **settings.fold.constants_of(facet), max_day_share=settings.fold.max_day_share
            )
            for facet in settings.fold.facet_names
        }
        return cls(model_key, settings.facet_hashes(model_key), settings.fold_hash(model_key), constants)
