src/store/offers.o: src/store/offers.c src/store/offers.h
src/store/offers.h:
