"""What predictors' probabilities turned out to mean, as far as training users and seeds tell.

Fitted by ``benchmarks/prediction_fit.py`` on GeoLife's training users and on SUMO trips in Berlin
with the seeds 1 to 140 (see `testbed.prediction.turns.TurnWeights`), cells 500 m apart in hexagons;
both count equally.
"""

from testbed.prediction.calibration import Calibration

_HORIZONS_S = (5.0, 10.0, 20.0, 30.0, 60.0)

MAP_BASED = Calibration(
    _HORIZONS_S,
    shift=(1.41, 2.07, 1.59, 0.96, 1.13),
    rise=(1.93, 2.42, 2.13, 1.68, 1.65),
    fall=(0.36, 0.07, 0.21, 0.43, 0.38),
)
CONSTANT_VELOCITY = Calibration(
    _HORIZONS_S,
    shift=(-1.56, 1.44, 0.99, 0.65, 1.3),
    rise=(0.94, 2.17, 1.82, 1.5, 1.86),
    fall=(3.29, 0.46, 0.55, 0.67, 0.32),
)
REGRESSION = Calibration(
    _HORIZONS_S,
    shift=(-2.52, -0.82, -0.69, -0.5, -0.12),
    rise=(0.61, 1.48, 1.39, 1.5, 1.61),
    fall=(0.5, 0.17, 0.17, 0.14, 0.11),
)
RSSI = Calibration(
    _HORIZONS_S,
    shift=(-0.06, 0.58, -0.11, -0.39, -0.1),
    rise=(1.53, 1.53, 0.65, 0.38, 0.31),
    fall=(0.23, 0.24, 0.6, 0.7, 0.5),
)
MARKOV = Calibration(
    _HORIZONS_S,
    shift=(0.43, 0.61, 0.29, 0.62, 0.93),
    rise=(0.67, 0.83, 0.9, 1.19, 1.65),
    fall=(0.02, 0.02, 0.6, 0.59, 1.12),
)
