"""What predictors' probabilities turned out to mean, as far as training users and seeds tell.

Fitted by ``benchmarks/prediction_fit.py`` on GeoLife's training users and on SUMO trips in Berlin
with the seeds 1 to 60 (see `testbed.prediction.turns.TurnWeights`), cells 500 m apart in hexagons;
both count equally.
"""

from testbed.prediction.calibration import Calibration

_HORIZONS_S = (5.0, 10.0, 20.0, 30.0, 60.0)

MAP_BASED = Calibration(
    _HORIZONS_S, shift=(-0.13, -0.32, -0.32, -0.25, -0.08), slope=(1.06, 0.92, 0.92, 0.83, 0.79)
)
CONSTANT_VELOCITY = Calibration(
    _HORIZONS_S, shift=(0.15, -0.12, -0.09, -0.05, 0.03), slope=(1.26, 1.09, 1.06, 0.98, 0.94)
)
REGRESSION = Calibration(
    _HORIZONS_S, shift=(-2.64, -2.28, -1.8, -1.52, -1.07), slope=(0.52, 0.39, 0.32, 0.28, 0.22)
)
RSSI = Calibration(
    _HORIZONS_S, shift=(-1.48, -0.71, -0.16, -0.06, 0.08), slope=(0.63, 0.78, 0.67, 0.57, 0.48)
)
MARKOV = Calibration(
    _HORIZONS_S, shift=(-1.35, 0.88, 0.3, 0.25, 0.44), slope=(0.14, 0.9, 0.89, 0.96, 1.36)
)
