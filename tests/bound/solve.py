"""Solves the linear program that standard input holds, as JSON, with HiGHS, and prints its least value: costs, limits, and entries as
rows, columns and values of a matrix; all variables are free."""

import json
import sys

import highspy
import numpy

program = json.load(sys.stdin)
width, height = len(program["costs"]), len(program["limits"])
lp = highspy.HighsLp()
lp.num_col_, lp.num_row_ = width, height
lp.col_cost_ = numpy.array(program["costs"])
lp.col_lower_ = numpy.full(width, -highspy.kHighsInf)
lp.col_upper_ = numpy.full(width, highspy.kHighsInf)
lp.row_lower_ = numpy.full(height, -highspy.kHighsInf)
lp.row_upper_ = numpy.array(program["limits"])
entries = sorted(zip(program["columns"], program["rows"], program["values"]))
starts = [0] * (width + 1)
for column, _, _ in entries:
    starts[column + 1] += 1
for column in range(width):
    starts[column + 1] += starts[column]
lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
lp.a_matrix_.start_ = numpy.array(starts)
lp.a_matrix_.index_ = numpy.array([row for _, row, _ in entries])
lp.a_matrix_.value_ = numpy.array([value for _, _, value in entries])
solver = highspy.Highs()
solver.setOptionValue("output_flag", False)
solver.passModel(lp)
solver.run()
optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
print(solver.getObjectiveValue() if optimal else "none")
