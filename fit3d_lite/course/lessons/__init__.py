"""What the lessons ask and what is right, by lesson and number, so that a student's cell holds the question alone.

records.py says what an exercise and a question of a quiz are made of; lesson_00.py and so on hold them: EXERCISES by
number, QUIZ in order. Nothing here judges or shows; that is course/exercises.py and course/quiz.py.
"""
